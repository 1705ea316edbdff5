"""Words that the error classes of a report know: objects, people, numbers, colours."""

from collections.abc import Sequence
from functools import lru_cache


def _set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


NUMBER_WORDS = "two three four five six seven eight nine ten"
NUMBERS = {word: word for word in NUMBER_WORDS.split()} | {
    str(value): word for value, word in enumerate(NUMBER_WORDS.split(), 2)
}
ALSO_TWO = _set("couple pair both")
OPEN_ENDS = _set(
    "a an the of with and or to from into onto at for while which who is are was were its his their"
)
VAGUE_NUMBERS = frozenset(
    [
        "several",
        "some",
        "many",
        "few",
        "multiple",
        "group",
        "groups",
        "crowd",
        "bunch",
        "various",
        "numerous",
        "lots",
        "team",
    ]
)
COLOURS = {
    **{
        word: word
        for word in _set("red green blue yellow orange purple pink white black brown grey")
    },
    "gray": "grey",
    "tan": "brown",
    "beige": "brown",
    "blond": "yellow",
    "blonde": "yellow",
    "golden": "yellow",
    "gold": "yellow",
    "silver": "grey",
    "maroon": "red",
    "violet": "purple",
}
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "and",
        "or",
        "by",
        "for",
        "from",
        "into",
        "onto",
        "over",
        "under",
        "near",
        "is",
        "are",
        "was",
        "were",
        "be",
        "that",
        "which",
        "who",
        "its",
        "his",
        "her",
        "their",
        "it",
        "them",
        "he",
        "she",
        "they",
        "as",
        "up",
        "down",
        "out",
        "off",
        "while",
        "this",
        "these",
        "those",
        "there",
        "some",
        "another",
        "next",
        "front",
        "top",
        "behind",
        "through",
        "around",
        "between",
        "against",
        "along",
        "across",
    ]
)
MALE = frozenset(
    [
        "man",
        "boy",
        "guy",
        "gentleman",
        "male",
        "father",
        "dad",
        "son",
        "brother",
        "groom",
        "he",
        "his",
        "him",
    ]
)
FEMALE = frozenset(
    [
        "woman",
        "girl",
        "lady",
        "female",
        "mother",
        "mom",
        "daughter",
        "sister",
        "bride",
        "she",
        "her",
    ]
)
PERSON = frozenset(
    [
        "person",
        "people",
        "child",
        "kid",
        "baby",
        "toddler",
        "infant",
        "adult",
        "teenager",
        "youth",
        "human",
        "couple",
        "crowd",
        "family",
        "friend",
        "player",
        "athlete",
        "rider",
        "biker",
        "cyclist",
        "bicyclist",
        "motorcyclist",
        "surfer",
        "skier",
        "snowboarder",
        "skateboarder",
        "skater",
        "swimmer",
        "diver",
        "climber",
        "hiker",
        "runner",
        "jogger",
        "walker",
        "racer",
        "dancer",
        "singer",
        "musician",
        "band",
        "worker",
        "officer",
        "soldier",
        "tourist",
        "pedestrian",
        "passenger",
        "driver",
        "chef",
        "cook",
        "student",
        "teacher",
        "batter",
        "pitcher",
        "catcher",
        "umpire",
        "referee",
        "goalie",
        "spectator",
        "fan",
        "audience",
        "team",
        "someone",
        "somebody",
        "individual",
        "wrestler",
        "boxer",
        "jumper",
        "wakeboarder",
        "bmxer",
        "bicycler",
        "gymnast",
        "clown",
        "performer",
        "vendor",
        "farmer",
        "hunter",
        "doctor",
        "they",
        "their",
        "them",
        "group",
        "other",
        "one",
    ]
)
IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "people",
    "ladies": "lady",
    "babies": "baby",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "puppies": "puppy",
    "ponies": "pony",
    "buses": "bus",
    "bus": "bus",
    "glasses": "glasses",
    "skis": "ski",
    "skies": "sky",
    "this": "this",
    "is": "is",
    "his": "his",
    "its": "its",
    "grass": "grass",
    "dress": "dress",
    "tennis": "tennis",
    "across": "across",
}
# COCO's 80 classes but person and orange (a colour too), by the words that captions use for them.
OBJECTS = {
    "bicycle": "bicycle bike",
    "car": "car suv sedan minivan taxi cab",
    "motorcycle": "motorcycle motorbike scooter moped",
    "airplane": "airplane plane jet aircraft airliner",
    "bus": "bus",
    "train": "train locomotive",
    "truck": "truck pickup lorry",
    "boat": "boat ship canoe kayak sailboat raft rowboat ferry",
    "traffic light": "traffic+light stop+light",
    "fire hydrant": "hydrant fire+hydrant",
    "stop sign": "stop+sign",
    "parking meter": "parking+meter",
    "bench": "bench",
    "bird": "bird duck goose seagull pigeon parrot owl eagle swan flamingo",
    "cat": "cat kitten kitty",
    "dog": "dog puppy pup poodle dachshund greyhound retriever terrier collie labrador doggy",
    "horse": "horse pony foal",
    "sheep": "sheep lamb ram",
    "cow": "cow bull calf cattle",
    "elephant": "elephant",
    "bear": "bear",
    "zebra": "zebra",
    "giraffe": "giraffe",
    "backpack": "backpack rucksack",
    "umbrella": "umbrella parasol",
    "handbag": "handbag purse",
    "tie": "necktie",
    "suitcase": "suitcase luggage",
    "frisbee": "frisbee",
    "skis": "ski",
    "snowboard": "snowboard",
    "sports ball": "ball football baseball basketball volleyball",
    "kite": "kite",
    "baseball bat": "bat baseball+bat",
    "baseball glove": "mitt baseball+glove",
    "skateboard": "skateboard",
    "surfboard": "surfboard",
    "tennis racket": "racket racquet",
    "bottle": "bottle",
    "wine glass": "wine+glass",
    "cup": "cup mug",
    "fork": "fork",
    "knife": "knife",
    "spoon": "spoon",
    "bowl": "bowl",
    "banana": "banana",
    "apple": "apple",
    "sandwich": "sandwich burger hamburger",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "hot dog": "hot+dog",
    "pizza": "pizza",
    "donut": "donut doughnut",
    "cake": "cake cupcake",
    "chair": "chair armchair",
    "couch": "couch sofa",
    "potted plant": "potted+plant house+plant",
    "bed": "bed",
    "table": "table desk",
    "toilet": "toilet",
    "tv": "tv television",
    "laptop": "laptop",
    "mouse": "computer+mouse",
    "remote": "remote wii",
    "keyboard": "keyboard",
    "cell phone": "phone cellphone smartphone cell+phone",
    "microwave": "microwave",
    "oven": "oven stove",
    "toaster": "toaster",
    "sink": "sink",
    "refrigerator": "refrigerator fridge",
    "book": "book",
    "clock": "clock",
    "vase": "vase",
    "scissors": "scissor",
    "teddy bear": "teddy teddy+bear",
    "hair drier": "hair+dryer hair+drier",
    "toothbrush": "toothbrush",
}
_OBJECT_OF = {
    tuple(word.split("+")): name for name, words in OBJECTS.items() for word in words.split()
}


@lru_cache(maxsize=100_000)
def singular(word: str) -> str:
    """The word without a plural's ending, by rule of thumb."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    for ending, kept in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("xes", "x"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + kept
    plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
    return word[:-1] if plural else word


def named_objects(words: Sequence[str]) -> set[str]:
    """COCO classes that a caption names; "hot dog" is no dog, and "teddy bear" no bear."""
    plain = [singular(word) for word in words]
    found, place = set(), 0
    while place < len(plain):
        pair = tuple(plain[place : place + 2])
        key = pair if pair in _OBJECT_OF else pair[:1]
        if key in _OBJECT_OF:
            found.add(_OBJECT_OF[key])
        place += len(key)
    return found


def persons(words: Sequence[str]) -> set[str]:
    """ "male", "female" and "person": what kinds of people a caption names."""
    found = set()
    for word in map(singular, words):
        if word in MALE or (word.endswith("man") and not word.endswith("woman")):
            found.add("male")
        elif word in FEMALE or word.endswith("woman"):
            found.add("female")
        elif word in PERSON:
            found.add("person")
    return found
