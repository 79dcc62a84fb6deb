"""Opinion words of ordinary review English, with weights from -3 (awful) to 3 (superb).

Written for this mock from general knowledge of how people review products, films, apps, meals, journeys and
services. Words stand in their base form or the forms that differ in meaning; `sentiment.py` strips plain
inflections itself.
"""


def _words(text: str) -> list[str]:
    return text.split()


_GROUPS: dict[float, str] = {
    3.0: """amazing astonishing awesome best breathtaking brilliant exceptional exquisite extraordinary
        fabulous fantastic flawless gorgeous incredible magnificent marvelous marvellous masterpiece
        outstanding perfect perfection phenomenal spectacular splendid stellar stunning sublime superb
        superlative terrific unbeatable unforgettable wonderful wow adore adored delightful excellent
        immaculate impeccable faultless sensational triumph""",
    2.0: """admirable adorable appreciate attractive beautiful beautifully beloved bliss captivating
        charming cheerful classy clever compelling congratulations courteous cozy cosy delicious
        delight delighted dependable elegant engaging enjoy enjoyable enjoyed entertaining enthralling
        excited exciting fast-paced favorite favourite fun funny generous genius glad good gracious
        grateful great gripping happy happily hilarious impress impressed impressive innovative
        inspiring joy joyful kind legendary likable likeable lively loveable lovely love loved loving
        loves memorable mouthwatering passionate pleasant pleased pleasing pleasure polite praise
        premium recommend recommended refreshing reliable remarkable rewarding riveting robust
        satisfied satisfying scrumptious seamless sleek smart smile spotless sturdy stylish superior
        tasty thank thanks thankful thoughtful thrilled thrilling touching treat treasure uplifting
        valuable versatile welcoming winner wins witty worthwhile worthy yummy attentive trustworthy
        top-notch hooked gem masterful heartwarming heartfelt rave soothing succulent flavorful
        flavourful divine dreamy speedy prompt promptly spacious vibrant comfy comfortable comfortably""",
    1.0: """accessible accurate adequate affordable agreeable ample bargain benefit better bright calm
        capable clean clear clearly compact convenient cool correct crisp cute decent durable ease
        easier easily easy effective efficient effortless efficiently ergonomic fair fairly-priced
        fast fine fix fixed flexible fluffy fresh friendly gentle gift handy healthy helpful helped
        helps honest hot-tip ideal improve improved improvement improves inexpensive informative
        interesting intuitive juicy legible light lightweight like liked likes lucky modern neat nice
        nicely nourishing organised organized patient peaceful plus polished popular positive powerful
        practical precise professional properly punctual pure quality quick quickly quiet rapid
        readable ready relaxed relaxing relief relieved resolved responsive rich right safe safely
        savory sharp simple slick smooth smoothly snappy snug soft solid solved special stable
        straightforward strong success successful successfully suitable sunny support supportive sweet
        tender thorough thoroughly tidy timely tough trusted upgrade usable useful warm well worth
        works worked smiling sincere authentic creative cheap-but-good knowledgeable caring vivid
        believable nuanced hopeful proud refund-friendly""",
    -1.0: """awkward basic beware bland bulky bump bumpy careless cheap cheesy chewy clumsy clunky
        cluttered cold complain complained complaint complaints complicated compromise concern
        concerned confuse confused confusing cramped crowded crude damp dated delay delayed delays
        difficult dim dingy doubt doubtful drab drain drains dry dubious dull dusty excessive
        expensive fail faint fatty fiddly flat flawed flaw flaws flimsy foggy forgettable generic
        glitch glitches glitchy gloomy greasy grumpy hard harsh heavy hesitant hiccup hollow
        impersonal impractical inaccurate incomplete inconsistent inconvenient indifferent issue
        issues jerky lack lacked lacking lacks lag lagging laggy laggard lags late lengthy limited
        loose lost loud lukewarm mediocre meh messy misleading mismatched miss missed missing mistake
        mistakes monotonous muddled mushy narrow noisy odd off-putting oily outdated overcomplicated
        overcooked overhyped overlong overpriced overrated pale plain predictable pricey pricy problem
        problems questionable rattle rattles repetitive rigid risky rough rushed rusty salty scratch
        scratched scratches scratchy shabby shallow sketchy slippery slow slowly sluggish smelly
        smudge soggy sore stale stain stained sticky stiff strange struggle struggled struggles stuck
        stuffy tacky tasteless tedious thin tight tired tiresome tiring tricky trouble unappealing
        unclear uncomfortable underwhelmed underwhelming uneven unfair unfinished unfortunately
        unhappy uninspired uninspiring uninteresting unnecessary unprofessional unrealistic
        unresponsive unsatisfying unstable unsure unwelcoming vague warped weak weird wobbly wobble
        worn worried worry wrong wait waited waiting leak leaks leaked leaking queue lose losing pushy
        contrived pointless filler shaky blurry grainy muffled patchy spotty""",
    -2.0: """abandon abandoned abrupt absurd abuse ache aggravating aggressive angry annoy annoyed annoying
        annoyance apathetic appalled argue arrogant ashamed avoid bad badly bait bore bored boredom
        boring bothersome break breaks broke broken brittle buggy bug bugs burned burnt cancelled
        chaos chaotic cheated condescending crack cracked cracks crap crappy crash crashed crashes
        crashing creepy cringe cringeworthy damage damaged dangerous dead deceptive defect defective
        defects deceive deceived depressing deteriorate dirty disappoint disappointed disappointing
        disappointment disappoints discourteous disgruntled dishonest dismal dismissive displeased
        disrespectful dissatisfied dissatisfying distasteful disturbing dreadful dreary failed fails
        failing failure fake fault faulty fear filthy flop foul freeze freezes froze frozen frustrate
        frustrated frustrating frustration fuming gross hate hated hates headache hideous hostile
        ignored ignorant ignores impolite impossible inadequate inaudible incompetent inedible
        ineffective inefficient inferior infuriated injured insult insulted insulting irritate
        irritated irritating irritation junk lame lemon lie lied lies lousy malfunction malfunctioned
        mangled miserable misery misled mold mould moldy mouldy nasty negative neglected nonsense
        obnoxious offensive outrage overcharged pain painful pathetic peeling poor poorly pretentious
        rancid raw-inside refuse refused regret regretted regrets rejected ridiculous rip-off ripoff
        rotten rubbish rude ruin ruined ruins sad sadly scam scammed shame shattered shoddy sick
        sloppy smash smashed sour spoiled spoilt stink stinks stole stolen stupid subpar substandard
        suffer suffered terrified torn toxic trash ugly unacceptable unbearable unfriendly unhelpful
        unhygienic unimpressed unimpressive unpleasant unplayable unreliable unsafe unsanitary
        untrustworthy unusable unwatchable upset upsetting useless vomit waste wasted wastes worse
        worsened worthless disaster-prone cockroach incoherent insufferable intolerable clueless
        disorganized disorganised sluggishly""",
    -3.0: """abhorrent abomination abysmal appalling atrocious awful catastrophe catastrophic despicable
        detest detested disaster disastrous disgrace disgraceful disgust disgusted disgusting
        dreadfully dumpster fraud fraudulent garbage ghastly hell hellish hopeless horrendous horrible
        horribly horrid horrific horrifying infuriating loathe loathed nightmare pathetically
        repulsive revolting terrible terribly torture unforgivable vile worst outrageous shambles
        travesty""",
}

WORDS: dict[str, float] = {word: weight for weight, group in _GROUPS.items() for word in group.split()}

# Phrases whose sense is not the sum of their words; they are looked up before single words.
PHRASES: dict[str, float] = {
    "hard to fault": 2.5, "can't fault": 2.5, "can't stop": 2.0, "couldn't stop": 1.5, "save your money": -2.5,
    "expected more": -1.5, "expected better": -1.5, "not what i ordered": -2.0, "not what i expected": -1.5,
    "would not buy": -2.0, "wouldn't buy": -2.0, "will not buy": -2.0, "won't buy": -2.0, "never buy": -2.0,
    "not be back": -2.0, "won't be back": -2.0, "not come back": -2.0, "not coming back": -2.0,
    "not go back": -2.0, "not going back": -2.0, "never go back": -2.5, "never come back": -2.5,
    "would not recommend": -2.5, "wouldn't recommend": -2.5, "cannot recommend": -2.5, "can't recommend": -2.5,
    "not recommend": -2.5, "never recommend": -2.5, "not return": -1.5, "won't return": -1.5,
    "fell apart": -2.5, "falls apart": -2.5, "fall apart": -2.5, "falling apart": -2.5,
    "stopped working": -2.5, "stop working": -2.0, "stops working": -2.5, "doesn't work": -2.0,
    "does not work": -2.0, "didn't work": -2.0, "did not work": -2.0, "not working": -2.0,
    "never worked": -2.5, "let down": -2.0, "lets down": -2.0, "letdown": -2.0, "waste of": -2.5,
    "money back": -1.5, "steer clear": -2.5, "stay away": -2.5, "rip off": -2.5, "ripped off": -2.5,
    "gave up": -1.5, "give up": -1.0, "walked out": -2.0, "fed up": -2.0, "not worth": -2.0,
    "isn't worth": -2.0, "never again": -2.5, "last time": -1.0, "no longer": -1.0, "sick of": -2.0,
    "could be better": -1.0, "could have been better": -1.5, "should have been": -1.0,
    "left a lot to be desired": -2.0, "too expensive": -1.5, "too small": -1.0, "too big": -1.0,
    "too short": -1.0, "too long": -1.0, "too loud": -1.5, "too much": -0.5, "on hold": -1.5,
    "no response": -2.0, "no reply": -2.0, "no answer": -1.5, "no help": -2.0, "no stars": -3.0,
    "zero stars": -3.0, "one star": -2.0, "five stars": 3.0, "5 stars": 3.0, "1 star": -2.0,
    "two stars": -1.5, "fall asleep": -1.5, "fell asleep": -1.5, "kept me waiting": -1.5,
    "out of order": -1.5, "hit and miss": -0.5, "well made": 2.0, "well built": 2.0, "well done": 2.0,
    "well worth": 2.0, "well written": 2.0, "well designed": 2.0, "highly recommend": 3.0,
    "would recommend": 2.0, "can recommend": 2.0, "must have": 2.0, "must see": 2.5, "worth every": 2.5,
    "worth the": 1.5, "worth it": 1.5, "looking forward": 1.5, "look forward": 1.5, "can't wait": 2.0,
    "can't go wrong": 2.0, "couldn't be happier": 3.0, "could not be happier": 3.0,
    "couldn't ask for more": 2.5, "second to none": 2.5, "blown away": 3.0, "blew me away": 3.0,
    "game changer": 2.5, "like a charm": 2.5, "life saver": 2.5, "lifesaver": 2.5, "no problem": 1.5,
    "no problems": 1.5, "no issues": 1.5, "no complaints": 1.5, "nothing but praise": 3.0, "come back": 1.0,
    "coming back": 1.0, "be back": 1.0, "on time": 1.0, "in no time": 1.5, "easy to": 1.0,
    "hard to put down": 2.5, "couldn't put it down": 2.5, "edge of my seat": 2.0, "more than expected": 1.5,
    "better than expected": 2.0, "exceeded": 2.0, "went above": 2.0, "above and beyond": 2.5,
    "value for money": 1.5, "good value": 2.0, "great value": 2.5, "kept me": 0.5, "two thumbs up": 2.5,
    "thumbs up": 2.0, "thumbs down": -2.0, "hats off": 2.0, "spot on": 2.0, "top notch": 2.5,
    "at least": 0.0, "sort of like": 0.0, "looks like": 0.0, "look like": 0.0, "feels like": 0.0,
    "felt like": 0.0, "smells like": 0.0, "sounds like": 0.0, "seems like": 0.0, "tastes like": 0.0,
    "just like": 0.0, "something like": 0.0, "would like": 0.0, "i'd like": 0.0, "hard drive": 0.0,
    "hard disk": 0.0, "light bulb": 0.0, "cold water": 0.0, "hard copy": 0.0, "as well": 0.0,
    "as well as": 0.0, "kind of": 0.0, "right now": 0.0, "right away": 1.0, "right side": 0.0,
    "on the right": 0.0, "all right": 0.3, "pretty much": 0.0, "heavy duty": 1.0, "cutting edge": 1.5,
    "customer support": 0.0, "support team": 0.0, "technical support": 0.0, "customer service": 0.0,
    "super market": 0.0, "build quality": 0.0, "picture quality": 0.0, "sound quality": 0.0,
    "print quality": 0.0, "dry cleaning": 0.0, "thank goodness": 1.0, "fine print": -0.5,
    "free of charge": 1.0, "for free": 0.5, "out of date": -1.0, "not bad": 1.0, "not too bad": 0.8,
    "not half bad": 1.5, "nothing special": -0.5, "nothing to write home": -0.5, "no wonder": 0.0,
    "used to love": -1.0, "used to be": -0.7, "if only": -1.0, "want to love": -1.0, "wanted to love": -1.5,
    "wanted to like": -1.5, "had high hopes": -1.0, "high hopes": -1.0, "killing it": 2.0,
    "long lasting": 1.5, "short lived": -1.5, "missing out": 0.5, "don't miss": 2.0, "without a hitch": 2.0,
    "without any problems": 1.5, "without problems": 1.5, "without issues": 1.5, "without issue": 1.5,
    "hassle free": 2.0, "trouble free": 1.5, "stress free": 1.5, "never disappoints": 2.5,
    "never fails": 2.0, "nothing wrong": 1.0, "wish i had bought": 2.0, "bought another": 1.5,
    "buy again": 1.5, "sold out": -0.3, "missed the point": -1.5,
}  # fmt: skip

NEGATORS = frozenset(_words("""
        not no never none nobody nothing neither nor nowhere cannot can't couldn't won't wouldn't
        don't doesn't didn't isn't wasn't aren't weren't haven't hasn't hadn't shouldn't ain't
        without hardly barely scarcely rarely seldom cant dont doesnt didnt isnt wasnt wont
        """))
INTENSIFIERS: dict[str, float] = dict.fromkeys(
    _words("absolutely completely extremely exceptionally incredibly insanely totally utterly"),
    1.6,
) | dict.fromkeys(
    _words("very really so too such truly super highly deeply seriously remarkably particularly most"),
    1.35,
)
DIMINISHERS: dict[str, float] = dict.fromkeys(
    _words("slightly somewhat bit little partly marginally mildly almost"), 0.5
) | dict.fromkeys(_words("fairly rather quite pretty relatively mostly reasonably kinda"), 0.8)

# Words of a reviewer who says that there is little to say; they pull a weak score to neutral.
NEUTRAL_CUES = frozenset(_words("""
        okay ok average ordinary standard typical normal acceptable passable so-so moderate middling
        unremarkable expected described alright usual neutral mixed
        """))
NEUTRAL_PHRASES = (
    "does the job", "as described", "as expected", "as advertised", "nothing special",
    "neither good nor bad", "neither here nor there", "no strong feelings", "no strong opinion",
    "no opinion", "middle of the road", "for the price", "about what i expected", "what you would expect",
    "what you'd expect", "gets the job done", "some good some bad", "pros and cons", "hit and miss",
    "nothing more nothing less", "not good not bad", "not great not terrible", "nothing to write home",
)  # fmt: skip

CONTRASTS = frozenset(_words("but however yet although though nevertheless nonetheless unfortunately except"))

# Cues of irony: warm words beside a mishap. Each is a warm opening that people use when they mean the
# opposite.
IRONIC_OPENINGS = (
    "oh great", "oh wonderful", "oh joy", "just great", "just what i needed", "just what i wanted",
    "just perfect", "how lovely", "how nice", "how wonderful", "well done", "thanks for nothing",
    "thanks a lot", "thanks so much for", "yeah right", "sure because", "what a surprise", "what a joy",
    "what a treat", "bravo", "brilliant idea", "if you enjoy", "if you like", "if you love", "great job",
    "nice job", "good luck", "congratulations", "wow what a", "lucky me", "my favorite part",
    "my favourite part", "truly a talent", "who needs", "who doesn't love",
)  # fmt: skip
MISHAPS = frozenset(_words("""
        wait waiting waited hour hours broke broken breaks crash crashed crashes crashing cold late
        delay delayed lost leak leaked leaks leaking fail failed fails dead dies died minutes weeks
        refund queue stopped burnt wrong again another twice thrice ignored noise noisy ads restart
        restarts freezes frozen cancelled missing dirty hair mold second third fourth fifth
        uninstall uninstalled charge charged hidden fee fees error errors
        """))
