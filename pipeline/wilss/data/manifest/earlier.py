"""Labels as a manifest read them before classes came to it, for masks that were made of them then."""

from dataclasses import replace

from wilss.data.layouts import CocoLabel, DataSpec, Label, PngLabel, Records
from wilss.data.taxonomy import VOID, Taxonomy, meaning_of


def as_known_before(records: Records, spec: DataSpec, taxonomy: Taxonomy) -> Records:
    """The same images with labels that know the classes of `taxonomy` alone, which the manifest's begin with.

    What a label holds of a later class is an unknown value then, or no shape; so its content is what it was.
    Raises ManifestError where the data set's own names are not those of `taxonomy` with later ones at their end.
    """
    if len(taxonomy.class_names) == len(spec.taxonomy.class_names):
        return records
    table = _before(spec, taxonomy).label_table

    def known(label: Label | None) -> Label | None:
        if isinstance(label, PngLabel):
            return PngLabel(path=label.path, table=table)
        if isinstance(label, CocoLabel):
            ids = {*range(len(taxonomy.class_names)), VOID}
            return replace(label, shapes=tuple(shape for shape in label.shapes if shape.identity in ids))
        return label

    return Records(replace(record, label=known(record.label)) for record in records)


def _before(spec: DataSpec, taxonomy: Taxonomy) -> DataSpec:
    """A data set as it was described with these classes: no name, value or colour of a later one."""

    def is_known(word: str) -> bool:
        return taxonomy.find(word) is not None or meaning_of(word) is not None

    own, names = taxonomy, list(spec.own.class_names)
    if spec.own is not spec.taxonomy:
        while names and not is_known(names[-1]):
            names.pop()
        own = Taxonomy(name=spec.own.name, class_names=tuple(names))
    written = {field: getattr(spec, field) for field in DataSpec.model_fields}
    values = {value: word for value, word in (spec.values or {}).items() if is_known(word)}
    colours = {word: several for word, several in (spec.colors or {}).items() if is_known(word)}
    return DataSpec.model_construct(
        **(written | {"values": values, "colors": colours, "taxonomy": taxonomy, "own": own})
    )
