"""Saerens et al. 2002, Sec. 2, once more, slowly: a posterior under another prior, by Bayes' rule, in loops."""


def under_another_prior(posterior, trained, expected):
    """Three lists of numbers in (0, 1), one for each class -> the posteriors under the priors `expected`."""
    found = []
    for p, was, will in zip(posterior, trained, expected, strict=True):
        # what the input says of the class and of its rival, up to a factor that both have
        of_class, of_rival = p / was, (1 - p) / (1 - was)
        found.append(of_class * will / (of_class * will + of_rival * (1 - will)))
    return found


def of_a_softmax_under_another_prior(posterior, trained, expected):
    """The posteriors of C classes and, last, of the rest; the priors of the classes -> those posteriors once more."""
    was, will = [*trained, 1 - sum(trained)], [*expected, 1 - sum(expected)]
    found = [p / before * after for p, before, after in zip(posterior, was, will, strict=True)]
    return [one / sum(found) for one in found]
