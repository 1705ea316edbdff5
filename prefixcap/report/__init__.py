"""`prefixcap report`: runs and studies on one page, with figures and tables as files."""
