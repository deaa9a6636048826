"""The grammar of everything around an order: greetings, reasons, ways of asking, politeness.

Each entry is a symbol and its alternatives; `{symbol}` in an alternative is replaced by one of that symbol's own.
Word lists (`{noun}`, `{place}` ...) are in `words.py`; `{coined}` is a name nobody has, made of syllables, so that a
student meets strange words from the start.
"""

from __future__ import annotations

import random
import re

from . import words
from .lexicon import lexemes

_GRAMMAR = """
greet:
    Hi | Hello | Hey | Hi there | Hello there | Hey there | Good morning | Morning | Good afternoon | Good evening
    Evening | Hi {name} | Hello {name} | Hey {name} | Hiya | Howdy | Good day | Greetings | Afternoon
    Morning, {name} | Hey, {title} | Hello again | Hi again | Hey you | Oh hi | Ah, hello | Hello hello | Happy {day}
    Hello everyone | Hi folks | {name} here | Hi, {name} here | Hello, it's {name}
    Hi, this is {name} from the {place} | It's me, {name} | Excuse me | Hi, {name} from {coined} speaking
    Long time no see | How are you | How's it going | How are things | Nice to see you | Sorry to bother you
    Merry Christmas | Top of the morning | What a day | Good to be back | Hey, how's {who} | Dear {name} | Dear team
    Hi all | Salut | Bonjour | Hola | Ciao | Aloha | G'day | Cheers | Yo | Sup | Well hello
title:
    sir | madam | boss | friend | mate | buddy | chef | captain | dear | my friend | pal | love | everyone | guys
    you two
um:
    um | uh | er | hmm | erm | well | so | right | okay | ok | let me see | let's see | let me think | ah | oh
    you know | I think | I guess | maybe | yes | yeah | sure | alright | now then | alright then | what was it
    oh yes | ah yes | if I may | as always
who: {name} | {name} | my {relation} | our {relation} | my {adj} {relation} | the {relation}
name: {known} | {known} | {known} | {known} | {known} | {known} | {coined} | {known} {coined}
person:
    {name} | my {relation} | my {relation} {name} | the {relation} | my {adj} {relation} | {name}'s {relation}
    our {relation} | my little {relation} | my big {relation} | the {adj} {relation} | our {adj} {relation}
    the {relation} from the {place} | my {relation}'s {relation} | the {relation} over there
    the {relation} by the window | the {relation} by the {adj} {noun}
reason:
    I'm {adv} {mood} | I'm {mood} | we're {mood} | we're all {adv} {mood} | I'm {mood} and {mood}
    I'm {doing} at the {place} | I'm {late} for the {event} | we're {late} for {who}'s {event}
    I've been {doing} since {time} | I've been {doing} all {part} | {person} is {doing} at the {place}
    {person} is {mood} | {who} and {who} are {doing} | it's {who}'s {event} today
    there's {article_event} at the {place} | my {event} starts at {time} | the {event} starts in {number} minutes
    the {noun} {adv} {past} the {noun} | the {adj} {noun} {past} my {noun} | {person} {past} the {noun}
    {person} {past} my {adj} {noun} | {person} {past} {number} {noun}s {when} | I {past} the {noun} {when}
    we {past} {person} {when} | the {noun} is {adj} | the {noun} is {adv} {adj} | it's {adv} {weather}
    it's {weather} out there | it's {weather} today | what {weather} weather | it's so {weather} in {coined}
    what a {adj} {noun} | what a {adj} {part} | I'm back from {coined} | I'm off to {coined}
    I just got back from the {place} | we just came from the {place} | we're on our way to the {place}
    I'm heading to {coined} | my {noun} is at the {place} | I left my {noun} at the {place} | I lost my {noun} {when}
    my {noun} broke {when} | I love the {noun} by the {noun} | I love your {adj} {noun} | nice {noun} you have there
    is that a new {noun} | there are {number} of us | we are {number} people | I've got {number} minutes
    I only have {number} minutes | I'll be at table {number} | we're at table {number} | we sit at the {adj} table
    I'm sitting by the {noun} | my {number} {relation}s are {doing} | it's my first time here
    I come here every {day} | I was here {when} | it's our last {day} here | I have {article_event} {when2}
    {person} has {article_event} {when2} | the {event} was {adj} | the {event} went {adv} well
    {person} told me about this place | {person} sent me | {person} is paying | it's on {person}
    I'm buying for the {noun} team | {person} says hello | {person} recommended you | you were {adv} {adj} {when}
    I'm in a rush | we're in a hurry | no rush | sorry, I'm {adv} {adj} {when2} | sorry I'm late
    sorry about the {noun} | sorry for the {adj} {noun} | excuse my {noun} | I need to wake up
    I can't feel my {noun} | I didn't sleep {when} | I could use a treat | I deserve a treat after the {event}
    long {part} at the {place} | big {event} {when2} | big {part} ahead | small {noun}, I know | it's a small world
    one of those days | the {adj} {noun} outside is {doing} | my {noun} number is {bignumber}
    it's {noun} number {bignumber} | {adv}, the {noun} {past} {person} | {adv} {adj} {noun}, isn't it
    we {past} {coined} {when} | {coined} is {adj} {when2} | I work at {coined} | we're the team from {coined}
    {person} works at the {coined} {place} | I'm new in {coined} | the {coined} {event} is {when2}
    {coined} {past} {coined} {when} | my bag is {adj} | my bag is at the {place} | right away would be {adj}
    take your time | take care of {person} | I'll stay by the {noun} | I've no {noun} on me
    the {noun} has gone {adj} | go on | I have to {verb} the {noun} | we want to {verb} {person}
    help me {verb} the {noun} | {person} likes to {verb} | I'm here to {verb} | we go {doing} every {day}
    I go to {coined} every {day} | everything hurts | all is {adj} | I'm all {mood}
verb:
    fix | find | meet | wake | call | paint | see | wash | walk | watch | feed | help | surprise | visit | draw | run
    talk | sing | dance | swim | read | study | write | move | play | win | sleep | rest | relax | celebrate
    concentrate | think | travel
late:
    late | so late | already late | running late | early | {adv} late | {number} minutes late | {number} minutes early
time:
    {hour} | {hour} o'clock | {hour}:{minute} | {hour}am | half past {hour} | noon | midnight | dawn
    {hour} in the {part}
hour: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | five | six | seven | eight | nine | ten
minute: 00 | 05 | 10 | 15 | 20 | 30 | 40 | 45 | 50
part: morning | day | night | afternoon | evening | week | weekend | month | year | {day}
number:
    2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | two | three | four | five | six | seven | eight | ten | 15 | 20 | a few
    a dozen
bignumber: 13 | 14 | 17 | 21 | 25 | 33 | 40 | 58 | 77 | 90 | 101 | 240 | 404 | 512 | 1987 | 2024
when:
    yesterday | today | last night | this morning | last {part} | on {day} | in {day} | at {time} | {number} days ago
    just now | again | {number} hours ago | before the {event} | after the {event} | during the {event} | in {coined}
    at the {place} | near {coined}
when2:
    today | tonight | tomorrow | at {time} | on {day} | next {part} | this {part} | soon | later | in {number} days
    in {coined}
article_event: a {event} | the {event} | some {event} | {who}'s {event}
ask_q:
    can I get | can I have | could I get | could I have | may I have | may I get | can we get | can we have
    could we have | could we get | may we have | can you make me | could you make me | could you make us | can you do
    could you do | would you make me | can you get me | could you get us | could I please have | can I please get
    could we please get | would you mind making | might I have | could I order | can I order | may I order
    can I grab | could I grab | can we grab | could I trouble you for | can you prepare | could you prepare
    could you bring us | can you bring me | would it be possible to have | could you ring up | is it possible to get
    may I ask for | could {person} have | can {person} get | could {person} get | may {person} have
    can my {relation} have | can you pour me | can I just get | could you {adv} make me | could I {adv} get
    do you think I could get | could we start with | can we start with | shall we say
ask_s:
    I'd like | I would like | I'd love | I would love | I'll have | I'll take | I want | I need | we'd like
    we would like | we'll have | we'll take | we need | we want | give me | let me have | let me get | get me
    please give me | please make me | please get us | make me | I'd {adv} like | I {adv} need | we {adv} want
    put me down for | it's | that'll be | that would be | today it's | today I'd like | for me | for us | for {person}
    for {person} and me | {person} wants | {person} would like | {person} would love | {person} needs
    {person} will have | {person} asked for | my order is | our order is | the order is | the order is for
    order for {person} is | an order of | I'm after | I'm here for | we came for | I'm craving | I've been dreaming of
    I fancy | we fancy | I'm looking for | I was hoping for | I was thinking | I'm thinking | how about | let's do
    let's go with | let's start with | I'll go for | I'll go with | we'll go for | we'll do | I'll do | I'll grab
    just | just need | only | start me off with | hook me up with | treat us to | send over | ring up | please prepare
    kindly prepare | prepare | please bring us | bring me | pour me | I could murder | nothing beats | today we want
    I'm getting | we're getting | {person} is getting | I'm having | we're having | {person} is having
    all we need is | all I want is | I've come for | what I need is | what we want is | the {relation}s want
    {who} and {who} want | {person} and I want | we shall have | I shall have | I must have | gimme | I wanna get
    I'd go for | time for | it's time for | me and {person} will have | I'd order | I'd be {adj} to get
    it would be {adj} to have | my {relation} is dreaming of | I'd kill for | I'm going to have | I'm gonna get
head:
    Order for {name} | Order | New order | {name} | {name}'s order | The usual for {name} | My order | Our order
    For {name} | Table {hour} | For the {place} | Order from the {place} | For {person} | For the {event}
    {place} order | {name} at {coined} | From {coined} | Order number {bignumber} | {event} order
    For the {adj} {event} | Here's my order | This is our order | The list | Wanted | Today
    Here is what {person} wants | Here's what we need | {coined} | Please prepare | What we need for the {event}
    Group order
please:
    please | please | please | please | pls | if you can | if possible | if you don't mind | thanks | thank you
    cheers | thanks a lot | please and thank you | if you'd be so kind | {title} | when you get a chance
    when you have a minute | as usual | as soon as possible | when you're ready | if that's okay | for now | today
    and thanks | and thank you | many thanks | quickly please | {name}
bye:
    Thanks | Thank you | Thanks a lot | Thanks so much | Thanks a million | Many thanks | Cheers | Ta
    Much appreciated | Appreciate it | Thank you so much | Thanks, {name} | Thank you, {title} | You're a star
    You're a lifesaver | You're the best | That's all | That's it | That's everything | That would be all
    That's all for today | Have a {adj} {part} | Have a {adj} one | See you {when2} | Bye | Bye now
    See you at {time} | I'll pick it up at {time} | I'll be there at {time} | {person} will pick it up
    Keep the change | Card, please | I'll pay by card | I'm paying cash | No rush | No hurry | Take your time
    Best, {name} | Regards, {name} | Love, {name} | Yours, {name} | It's for {person} | The name's {name}
    Name is {name} | The name is {coined} | Under {name}, please | My name is {name} | Call me {name}
    Sorry for the {noun} | Sorry about the {adj} {noun} | You {adv} saved my {part} | We'll be by the {noun}
    I'll wait by the {noun} | Say hi to {person} | Give my best to {person} | Hope the {noun} is {adj}
    Hope {person} is {mood} | God bless | Good luck | Take care | Wish me luck at the {event} | Wish me luck
    Can't wait | I can't wait | It's been a {adj} {part} | Hurry, please | That will do
behind:
    , that's my order | is what I need | is what we need | is all | , that's it | for {person} | , {ask_s} that
    would be {adj} | would be lovely | , if I may | for {person} and {who} | , that's for {person}
    is what {person} wants | , nothing else
sweetly: nice | lovely | fresh | good | hot | simple | {adj} | {adj} | {adj}
go:
    to go | to go | to go | to go | to take away | takeaway | takeaway | take away | take-away | to-go | for takeaway
    as a takeaway | to take with me | to take with us | to take with me | in a bag | in a bag | all to go
    all in a bag | everything to go | all of it to go | everything in a bag | all takeaway | it's to go | takeout
go_full:
    To go, please | That's to go | It's to go | It's all to go | All to go, please | This is to go
    Everything to go, please | To go | Takeaway, please | Takeaway | It's takeaway | That's takeaway | All takeaway
    Make it a takeaway | Make it to go | It's a takeaway | In a bag, please | Put it in a bag, please
    Could you put it all in a bag | Everything in a bag, please | It can go in a bag | I'd like to take it with me
    I want to take it with me | It's to take with me | I'm taking it with me | We'd like to take it with us
    It's to take away | To take away, please | We'll take it away | I'm taking it away | Can you make that to go
    Pack it to go, please | We want it to go | I need it to go | It's for takeaway | To take with me, please
    I'll have it to go | Please make it takeaway | I need everything in a bag | All of that to take away
    The whole lot to go | The lot is to go | Make everything to go, please
go_head:
    To go | Takeaway | Takeaway for {name} | To go for {name} | Takeaway order | Order to go | Take away
    Takeaway order for {name} | For takeaway
here:
    for here | for here | for here | to have here | to have here | to stay | to stay | eating in | to eat in
    to drink here | all for here | to have in | to have at the table | it's for here
here_full:
    For here, please | For here | It's for here | To stay | We're eating in | I'm eating in | Eating in today
    We'll have it here | All for here | To have here, please | It's to stay | We'd like to have it here
    I'll have it here | We'll stay a while | That's for here | We're staying | We'll eat it here
    It's all to have here | I'll drink it here | We'll sit down | We'll sit outside
    For here please, {adj} {noun} here
"""


def expand(symbol: str, rng: random.Random) -> str:
    """One alternative of `symbol`, its slots filled in."""
    word = _WORDS.get(symbol)
    if word is not None:
        return rng.choice(word)
    if symbol == "coined":
        return coined_name(rng)
    return fill(rng.choice(_RULES[symbol]), rng)


def fill(text: str, rng: random.Random) -> str:
    """`text` with each `{symbol}` expanded."""
    return _SLOT.sub(lambda slot: expand(slot[1], rng), text)


def coined_name(rng: random.Random) -> str:
    """A name of two or three syllables that means nothing to an order."""
    while True:
        name = "".join(rng.choices(words.SYLLABLES, k=rng.choice((2, 2, 3))))
        if all(lexeme.kind == "word" for lexeme in lexemes(name)):
            return name.capitalize()


def _rules(grammar: str) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    alternatives: list[str] = []
    for line in grammar.strip().splitlines():
        head, colon, rest = line.partition(":")
        if colon and re.fullmatch(r"\w+", head):
            alternatives = rules[head] = []
            line = rest
        alternatives += [part.strip() for part in line.split("|") if part.strip()]
    return rules


_SLOT = re.compile(r"\{(\w+)\}")
_RULES = _rules(_GRAMMAR)
_WORDS: dict[str, tuple[str, ...]] = {
    "known": words.NAMES,
    "relation": words.RELATIONS,
    "noun": words.NOUNS,
    "adj": words.ADJECTIVES,
    "past": words.PAST_VERBS,
    "doing": words.DOING,
    "place": words.PLACES,
    "event": words.EVENTS,
    "mood": words.MOODS,
    "weather": words.WEATHER,
    "day": words.DAYS,
    "adv": words.ADVERBS,
}
