import torch
import torch.nn.functional as F

from alignctl.config.encoder_configs import ProjectorConfig
from alignctl.encoders.projector import Projector


def test_it_is_linear_norm_relu_linear_norm():
    torch.manual_seed(0)
    projector = Projector(5, ProjectorConfig(hidden_dim=7, output_dim=3))
    features = torch.randn(11, 5)
    first, last = projector[0].weight, projector[3].weight
    assert (first.shape, last.shape) == ((7, 5), (3, 7))
    hidden = F.batch_norm(features @ first.T, None, None, training=True).relu()
    expected = F.batch_norm(hidden @ last.T, None, None, training=True)
    torch.testing.assert_close(projector(features), expected)


def test_no_bias_is_trained_but_the_hidden_norms():
    projector = Projector(5, ProjectorConfig(hidden_dim=7, output_dim=3))
    projector(torch.randn(4, 5)).square().sum().backward()
    trained = {name for name, tensor in projector.named_parameters() if tensor.grad is not None}
    assert trained == {"0.weight", "1.weight", "1.bias", "3.weight", "4.weight"}
    assert not projector[4].bias.any()
