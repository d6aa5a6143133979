"""metric_image_features: distances and scores of sets of image features."""

from minigen.metrics.frechet import frechet_distance, kernel_distance
from minigen.metrics.labels import inception_score
from minigen.metrics.manifold import precision_recall

from . import NotCovered, kind

MEASURES = {
    "fid": lambda case: frechet_distance(case["in__a"], case["in__b"]),
    "kid": lambda case: kernel_distance(case["in__a"], case["in__b"]),
    "inception_score": lambda case: inception_score(case["in__probs"]),
    "precision_k": lambda case, k: precision_recall(case["in__a"], case["in__b"], k)[0],
    "recall_k": lambda case, k: precision_recall(case["in__a"], case["in__b"], k)[1],
}


@kind("metric_image_features")
def run(case):
    ours = {}
    for name in case.arrays:
        if name.startswith("in__"):
            continue
        measure, digits = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")) :]
        if measure not in MEASURES or bool(digits) != measure.endswith("_k"):
            raise NotCovered(f"no measure is known for {name!r}")
        ours[name] = MEASURES[measure](case, *([int(digits)] if digits else []))
    case.compare(ours).require()
