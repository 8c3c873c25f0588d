import torch

from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss_train.methods.teacher import Teacher

SPEC = SegmenterSpec(
    backbone="resnet18", args={"channels": [8, 8, 8, 12]}, output_stride=8, head_width=16, rates=(1, 2), num_channels=5
)


def test_a_teacher_has_the_students_channels_on_the_students_features() -> None:
    student = build(SPEC, seed=0)
    teacher = Teacher.like(student, seed=0)
    features = student.features(torch.rand(2, 3, 32, 40))
    logits, embedding = teacher(features)
    assert logits.shape == (2, 5, 4, 5)
    assert embedding.shape == (2, 16, 4, 5)
    torch.testing.assert_close(teacher.classifier(embedding), logits)
    assert [one.dilation[0] for one in teacher.modules() if isinstance(one, torch.nn.Conv2d)] == [1, 1, 2, 1, 1, 1]


def test_the_same_features_are_taught_alike_twice_while_training() -> None:
    teacher = Teacher.like(build(SPEC, seed=0), seed=0).train()
    features = torch.rand(2, 12, 4, 4)
    assert torch.equal(teacher(features).logits, teacher(features).logits)


def test_weights_depend_on_the_seed_and_leave_the_random_state() -> None:
    student = build(SPEC, seed=0)
    state = torch.get_rng_state()
    first, again, other = (Teacher.like(student, seed=seed).classifier.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_every_parameter_gets_a_gradient() -> None:
    teacher = Teacher(12, 5, 16, (1, 2))
    teacher(torch.rand(2, 12, 4, 4)).logits.square().sum().backward()
    assert all(value.grad is not None for value in teacher.parameters())
