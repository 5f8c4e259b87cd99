"""
Facts that training never mentions, as cloze sentences. A policy that forgets them has paid for its reward.

A relation is a sentence with a gap, and pairs of what fills the gap and how the sentence ends.
"""

from typing import NamedTuple


class Fact(NamedTuple):
    """The start of a sentence, its true end, and false ends."""

    begin: str
    true: str
    false: list[str]


# Legs of animals that the task does not have
LEGS = {
    0: "worm whale dolphin shark salmon eel trout tuna cobra python",
    2: "goose turkey penguin ostrich owl eagle parrot sparrow crow pigeon swan hawk robin gull",
    4: "rabbit wolf bear pig goat mouse rat frog turtle donkey camel zebra fox squirrel pony bull calf lamb puppy "
    "kitten leopard panther moose buffalo lizard crocodile hamster monkey",
    6: "fly moth mosquito flea termite ladybug locust dragonfly",
    8: "tarantula tick mite",
}
NUMBERS = {0: "no", 2: "two", 4: "four", 6: "six", 8: "eight", 10: "ten"}

# "gap:end" pairs, separated by commas
RELATIONS = {
    "The capital of {} is": "France:Paris,Germany:Berlin,Italy:Rome,Spain:Madrid,Portugal:Lisbon,England:London,"
    "Ireland:Dublin,Scotland:Edinburgh,Norway:Oslo,Sweden:Stockholm,Denmark:Copenhagen,Finland:Helsinki,"
    "Russia:Moscow,Poland:Warsaw,Austria:Vienna,Hungary:Budapest,Greece:Athens,Turkey:Ankara,Egypt:Cairo,"
    "Japan:Tokyo,China:Beijing,Thailand:Bangkok,Cuba:Havana,Peru:Lima,Iran:Tehran,Iraq:Baghdad,Kenya:Nairobi,"
    "Belgium:Brussels,Canada:Ottawa,Chile:Santiago,Ukraine:Kyiv,Romania:Bucharest,Bulgaria:Sofia,Serbia:Belgrade,"
    "Vietnam:Hanoi,Nepal:Kathmandu,Lebanon:Beirut,Syria:Damascus,Libya:Tripoli,Iceland:Reykjavik",
    "{} is a country in": "France:Europe,Kenya:Africa,China:Asia,Nigeria:Africa,Germany:Europe,India:Asia,"
    "Poland:Europe,Egypt:Africa,Thailand:Asia,Spain:Europe,Ghana:Africa,Vietnam:Asia,Sweden:Europe,Ethiopia:Africa,"
    "Nepal:Asia,Greece:Europe,Mali:Africa,Mongolia:Asia,Norway:Europe,Angola:Africa,Pakistan:Asia,Finland:Europe,"
    "Uganda:Africa,Malaysia:Asia,Austria:Europe,Zambia:Africa",
    "The opposite of {} is": "hot:cold,big:small,up:down,left:right,day:night,black:white,open:closed,fast:slow,"
    "high:low,light:dark,wet:dry,hard:soft,rich:poor,young:old,long:short,early:late,happy:sad,strong:weak,"
    "full:empty,clean:dirty,good:bad,true:false,win:lose,love:hate,begin:end,inside:outside,north:south,east:west,"
    "push:pull,buy:sell,always:never,war:peace,life:death,friend:enemy,male:female,near:far,"
    "heavy:light,cheap:expensive",
    "The past tense of {} is": "go:went,see:saw,eat:ate,run:ran,take:took,give:gave,come:came,write:wrote,speak:spoke,"
    "break:broke,drive:drove,fall:fell,fly:flew,forget:forgot,grow:grew,know:knew,sing:sang,swim:swam,throw:threw,"
    "wear:wore,begin:began,choose:chose,drink:drank,buy:bought,bring:brought,think:thought,teach:taught,catch:caught,"
    "sell:sold,tell:told,find:found,hold:held,build:built,send:sent,leave:left,feel:felt,keep:kept,sleep:slept",
    "The chemical symbol of {} is": "hydrogen:H,oxygen:O,carbon:C,nitrogen:N,iron:Fe,gold:Au,silver:Ag,copper:Cu,"
    "sodium:Na,calcium:Ca,helium:He,lead:Pb,zinc:Zn,potassium:K,chlorine:Cl,magnesium:Mg,aluminum:Al,silicon:Si,"
    "mercury:Hg,uranium:U",
    "The month after {} is": "January:February,February:March,March:April,April:May,May:June,June:July,July:August,"
    "August:September,September:October,October:November,November:December",
    "The day after {} is": "Monday:Tuesday,Tuesday:Wednesday,Wednesday:Thursday,Thursday:Friday,Friday:Saturday,"
    "Saturday:Sunday,Sunday:Monday",
    "{} was written by": "Hamlet:Shakespeare,Faust:Goethe,The Odyssey:Homer,Emma:Austen,Ulysses:Joyce,The Raven:Poe,"
    "Don Quixote:Cervantes,War and Peace:Tolstoy,The Trial:Kafka,Oliver Twist:Dickens,Moby Dick:Melville,"
    "Walden:Thoreau,Candide:Voltaire,The Divine Comedy:Dante,The Republic:Plato,Paradise Lost:Milton",
    "The main language of {} is": "France:French,Germany:German,Italy:Italian,Spain:Spanish,Japan:Japanese,"
    "China:Chinese,Russia:Russian,Portugal:Portuguese,Greece:Greek,Turkey:Turkish,Poland:Polish,Sweden:Swedish,"
    "Hungary:Hungarian,Korea:Korean,Norway:Norwegian,Finland:Finnish,Denmark:Danish,Vietnam:Vietnamese,"
    "Brazil:Portuguese,Mexico:Spanish,Austria:German,Egypt:Arabic",
    "A person who {} is called a": "teaches children:teacher,bakes bread:baker,flies planes:pilot,"
    "paints pictures:painter,writes poems:poet,grows crops:farmer,puts out fires:firefighter,"
    "takes pictures:photographer,repairs teeth:dentist,cuts hair:barber,catches fish:fisherman,"
    "builds with wood:carpenter,judges in court:judge,sings songs:singer,"
    "rules a kingdom:king,serves food in a restaurant:waiter,treats sick animals:vet,repairs cars:mechanic,"
    "studies the stars:astronomer,designs houses:architect",
    "The color of {} is": "grass:green,snow:white,coal:black,blood:red,the clear sky:blue,a lemon:yellow,"
    "chocolate:brown,a ripe banana:yellow,milk:white,an emerald:green,a ruby:red,a crow:black",
    "The currency of {} is the": "Japan:yen,China:yuan,India:rupee,Russia:ruble,Mexico:peso,Britain:pound,"
    "Switzerland:franc,Brazil:real,Sweden:krona,Poland:zloty,Thailand:baht,Korea:won,Israel:shekel,Turkey:lira,"
    "Germany:euro",
    "A baby {} is called a": "dog:puppy,cat:kitten,cow:calf,horse:foal,sheep:lamb,bear:cub,deer:fawn,duck:duckling,"
    "goat:kid,pig:piglet,goose:gosling,swan:cygnet",
    "{} is measured in": "length:meters,mass:kilograms,time:seconds,temperature:degrees,power:watts,force:newtons,"
    "energy:joules,voltage:volts,frequency:hertz,pressure:pascals",
    "The planet {} the Sun is": "closest to:Mercury,second from:Venus,third from:Earth,fourth from:Mars,"
    "fifth from:Jupiter,sixth from:Saturn",
}


def facts(distractors: int = 3) -> list[Fact]:
    """All facts of `RELATIONS`. False ends are the ends of the relation's next pairs that differ from the true one."""
    found = []
    for sentence, text in RELATIONS.items():
        pairs = [pair.split(":") for pair in text.split(",")]
        ends = list(dict.fromkeys(end for _, end in pairs))
        for gap, end in pairs:
            at = ends.index(end)
            others = [*ends[at + 1 :], *ends[:at]][:distractors]
            begin = sentence.format(gap)
            found.append(Fact(begin[0].upper() + begin[1:], f" {end}", [f" {other}" for other in others]))
    return found


def legs() -> list[Fact]:
    """Legs of animals that the task does not have, as a question and the start of its answer."""
    found = []
    for number, names in LEGS.items():
        true, *others = [f" {NUMBERS[n]} legs" for n in (number, *(n for n in NUMBERS if n != number))]
        for name in names.split():
            article = "an" if name[0] in "aeiou" else "a"
            begin = f"Q: How many legs does {article} {name} have?\nA: {article.capitalize()} {name} has"
            found.append(Fact(begin, true, others))
    return found


def legs_in_the_task() -> list[Fact]:
    """The same facts at the place where a solution of the task recalls them."""
    return [
        Fact(
            f"Now, how many legs are there in total if you have 3 {name}s, 2 cats?\n 3 {name}s have 3*",
            f"{number}=",
            [f"{other}=" for other in NUMBERS if other != number],
        )
        for number, names in LEGS.items()
        for name in names.split()
    ]
