"""What annotation tools say of images: CVAT, Label Studio, labelme, COCO, FiftyOne, label maps.

`read_annotations` gives images with shapes; `runs` and `outlines` are the codes and the pixel rules of the tools.
"""

from wilss.data.annotations.names import ImageNames
from wilss.data.annotations.reading import READERS, read_annotations, recognised
from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape

__all__ = ["READERS", "AnnotatedImage", "Annotations", "ImageNames", "Shape", "read_annotations", "recognised"]
