"""logits_processors: what is done to logits before a symbol is drawn. Each array's name holds the rule and its number.

The two without a number were found by trying published values: eta 0.01, epsilon 0.02.
"""

import re

from minigen.sampling import logits as rules

from . import NotCovered, kind

USUAL = {"eta": 0.01, "eps": 0.02}
RULES = {
    "temperature": lambda scores, ids, x: rules.temperature(scores, x),
    "topk": lambda scores, ids, x: rules.top_k(scores, int(x)),
    "topp": lambda scores, ids, x: rules.top_p(scores, x),
    "minp": lambda scores, ids, x: rules.min_p(scores, x),
    "typical": lambda scores, ids, x: rules.typical(scores, x),
    "rep": lambda scores, ids, x: rules.repetition_penalty(scores, ids, x),
    "nongram": lambda scores, ids, x: rules.no_repeat_ngram(scores, ids, int(x)),
    "eta": lambda scores, ids, x: rules.eta_cutoff(scores, x),
    "eps": lambda scores, ids, x: rules.epsilon_cutoff(scores, x),
}


@kind("logits_processors")
def logits_processors(case):
    ours = {}
    for name in case.arrays:
        if not name.startswith("in__"):
            rule, number = re.fullmatch(r"([a-z]+?)_?(\d[\dpe\-]*)?", name).groups()
            if rule not in RULES:
                raise NotCovered(f"no rule {rule!r}")
            value = USUAL.get(rule) if number is None else float(number.replace("p", "."))
            ours[name] = RULES[rule](case["in__scores"], case["in__ids"], value)
    case.compare(ours).require()
