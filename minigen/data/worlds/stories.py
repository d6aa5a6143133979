"""A grammar of short stories: someone finds something, someone else asks for it, and it ends well or badly.

    one day ann found a ball in the garden . she took it home . soon tom came and asked ann for the ball . ann gave
    him the ball . he was happy .

What must agree over a distance: the finder's name, his or her pronoun, the thing and its article, the name and the
pronoun of the one who asks, and how it ends with what was answered. A symbol that refers back is certain to whoever
remembers, and a guess to whoever sees the last few words only.
"""

import itertools

HE, SHE = ("tom", "ben", "sam"), ("ann", "mia", "eva")
THINGS = ("ball", "book", "apple", "egg")


def story_rules(he=HE, she=SHE, things=THINGS):
    """{head: [(probability, body), ...]} for `compile_grammar`, with these names and things."""
    names, rules = (*he, *she), {}
    subject = dict.fromkeys(he, "he") | dict.fromkeys(she, "she")
    owner = dict.fromkeys(he, "his") | dict.fromkeys(she, "her")
    target = dict.fromkeys(he, "him") | dict.fromkeys(she, "her")

    def evenly(bodies):
        bodies = list(bodies)
        return [(1 / len(bodies), body) for body in bodies]

    rules["<story>"] = [(1.0, "<time> <finder>")]
    rules["<time>"] = [(0.6, "one <day>"), (0.25, "once"), (0.15, "yesterday")]
    rules["<day>"] = [(0.5, "day"), (0.3, "morning"), (0.2, "night")]
    rules["<place>"] = [(0.4, "in the garden"), (0.35, "by the river"), (0.25, "under a tree")]
    rules["<size>"] = [(0.5, "big"), (0.3, "little"), (0.2, "red")]
    rules["<both>"] = [(0.7, "played"), (0.3, "walked home")]
    rules["<glad>"] = [(0.7, "happy ."), (0.3, "very happy .")]
    rules["<finder>"] = evenly(f"{n} found <found:{n}>" for n in names)
    for n in names:
        told = {o: f"{o} <rest:{n}:{o}>" for o in things}
        rules[f"<found:{n}>"] = [(0.7, f"a <a:{n}>"), (0.3, f"an <an:{n}>")]
        rules[f"<an:{n}>"] = evenly(told[o] for o in things if o[0] in "aeiou")
        rules[f"<a:{n}>"] = [(0.5, f"<size> <any:{n}>"), (0.5, f"<plain:{n}>")]
        rules[f"<plain:{n}>"] = evenly(told[o] for o in things if o[0] not in "aeiou")
        rules[f"<any:{n}>"] = evenly(told.values())
        for o in things:
            rules[f"<rest:{n}:{o}>"] = [(1.0, f"<place> . {subject[n]} <then:{n}:{o}>")]
            rules[f"<then:{n}:{o}>"] = [
                (0.4, f"took it home . <more:{n}:{o}>"),
                (0.35, f"put it in {owner[n]} bag . <more:{n}:{o}>"),
                (0.25, f"liked the {o} . <more:{n}:{o}>"),
            ]
            rules[f"<more:{n}:{o}>"] = [
                (0.2, f"{subject[n]} <then:{n}:{o}>"),  # as often as it likes
                (0.6, f"soon <asker:{n}:{o}>"),
                (0.2, f"then <asker:{n}:{o}>"),
            ]
            rules[f"<asker:{n}:{o}>"] = evenly(f"{m} <asks:{n}:{o}:{m}>" for m in names if m != n)
    for n, o, m in itertools.product(names, things, names):
        if n != m:
            rules[f"<asks:{n}:{o}:{m}>"] = [
                (0.6, f"came and asked {n} for the {o} . <answer:{n}:{o}:{m}>"),
                (0.4, f"saw {n} and the {o} . <answer:{n}:{o}:{m}>"),
            ]
            rules[f"<answer:{n}:{o}:{m}>"] = [
                (0.55, f"{n} gave {target[m]} the {o} . {subject[m]} was <glad>"),
                (0.25, f"but {n} kept the {o} . {m} was sad ."),
                (0.2, f"they <both> with the {o} . {n} and {m} were <glad>"),
            ]
    return rules
