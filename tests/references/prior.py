"""Saerens et al. 2002, Sec. 2, once more, slowly: a posterior under another prior, by Bayes' rule, in loops."""


def under_another_prior(posterior, trained, expected):
    """Three lists of numbers in (0, 1), one for each class -> the posteriors under the priors `expected`."""
    found = []
    for p, was, will in zip(posterior, trained, expected, strict=True):
        # what the input says of the class and of its rival, up to a factor that both have
        of_class, of_rival = p / was, (1 - p) / (1 - was)
        found.append(of_class * will / (of_class * will + of_rival * (1 - will)))
    return found
