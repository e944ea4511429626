"""inward: see inside image networks.

``inward.load`` or ``inward.Network.of`` makes a network; the methods look into it.
"""

from inward.errors import CallError, InwardError, InwardWarning
from inward.explore import explore
from inward.gradient import gradient, mean_gradient
from inward.methods import TABLE
from inward.methods.apgd import apgd
from inward.methods.attacks import fgsm, momentum_fgsm, pgd, targeted_attack
from inward.methods.autoattack import autoattack
from inward.methods.blur import blur
from inward.methods.blur_integrated import blur_integrated_gradients
from inward.methods.cam import grad_cam, grad_cam_plus_plus, layer_cam
from inward.methods.carlini_wagner import carlini_wagner
from inward.methods.class_visualization import class_visualization
from inward.methods.conductance import conductance, neuron_conductance
from inward.methods.ddn import ddn
from inward.methods.deepfool import deepfool
from inward.methods.deeplift import deeplift
from inward.methods.dream import dream
from inward.methods.expected_gradients import expected_gradients
from inward.methods.fab import fab
from inward.methods.fast_minimum import fmn
from inward.methods.feature_attack import feature_attack
from inward.methods.gradient_times_input import gradient_x_input
from inward.methods.guided import deconvnet, guided_backpropagation
from inward.methods.guided_integrated import guided_integrated_gradients
from inward.methods.influence import internal_influence
from inward.methods.integrated import integrated_gradients
from inward.methods.invert import invert
from inward.methods.lrp import lrp
from inward.methods.noise import noise
from inward.methods.occlusion import occlusion
from inward.methods.patch import patch
from inward.methods.rise import rise
from inward.methods.rollout import attention_rollout
from inward.methods.saliency import saliency
from inward.methods.score_cam import score_cam
from inward.methods.smallest import smallest_eps
from inward.methods.smoothing import smoothgrad, squaregrad, vargrad
from inward.methods.sparse_rs import sparse_rs
from inward.methods.square import square
from inward.methods.style import style
from inward.methods.superpixels import lime
from inward.methods.texture import texture
from inward.methods.universal import universal_pgd
from inward.methods.visualize import visualize
from inward.network import Network
from inward.network.load import load
from inward.pictures import read
from inward.studies.activations import activations
from inward.version import VERSION as __version__

__all__ = [
    "TABLE",
    "CallError",
    "InwardError",
    "InwardWarning",
    "Network",
    "__version__",
    "activations",
    "apgd",
    "attention_rollout",
    "autoattack",
    "blur",
    "blur_integrated_gradients",
    "carlini_wagner",
    "class_visualization",
    "conductance",
    "ddn",
    "deconvnet",
    "deepfool",
    "deeplift",
    "dream",
    "expected_gradients",
    "explore",
    "fab",
    "feature_attack",
    "fgsm",
    "fmn",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_x_input",
    "guided_backpropagation",
    "guided_integrated_gradients",
    "integrated_gradients",
    "internal_influence",
    "invert",
    "layer_cam",
    "lime",
    "load",
    "lrp",
    "mean_gradient",
    "momentum_fgsm",
    "neuron_conductance",
    "noise",
    "occlusion",
    "patch",
    "pgd",
    "read",
    "rise",
    "saliency",
    "score_cam",
    "smallest_eps",
    "smoothgrad",
    "sparse_rs",
    "square",
    "squaregrad",
    "style",
    "targeted_attack",
    "texture",
    "universal_pgd",
    "vargrad",
    "visualize",
]
