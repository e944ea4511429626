"""The one explicit table of methods.

The command line, the table in the README and the tests that every method gets follow from it; a
function's signature is the only source of its options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inward.errors import CallError
from inward.methods.apgd import apgd
from inward.methods.attacks import fgsm, momentum_fgsm, pgd, targeted_attack
from inward.methods.autoattack import autoattack
from inward.methods.blur import blur
from inward.methods.blur_integrated import blur_integrated_gradients
from inward.methods.cam import grad_cam, grad_cam_plus_plus, layer_cam
from inward.methods.carlini_wagner import carlini_wagner
from inward.methods.class_visualization import class_visualization
from inward.methods.conductance import conductance, neuron_conductance
from inward.methods.deepfool import deepfool
from inward.methods.deeplift import deeplift
from inward.methods.expected_gradients import expected_gradients
from inward.methods.fab import fab
from inward.methods.fast_minimum import fmn
from inward.methods.feature_attack import feature_attack
from inward.methods.gradient_times_input import gradient_x_input
from inward.methods.guided import deconvnet, guided_backpropagation
from inward.methods.guided_integrated import guided_integrated_gradients
from inward.methods.influence import internal_influence
from inward.methods.integrated import integrated_gradients
from inward.methods.lrp import lrp
from inward.methods.noise import noise
from inward.methods.occlusion import occlusion
from inward.methods.patch import patch
from inward.methods.rise import rise
from inward.methods.rollout import attention_rollout
from inward.methods.saliency import saliency
from inward.methods.score_cam import score_cam
from inward.methods.smoothing import smoothgrad, squaregrad, vargrad
from inward.methods.sparse_rs import sparse_rs
from inward.methods.square import square
from inward.methods.superpixels import lime
from inward.methods.universal import universal_pgd
from inward.methods.visualize import visualize
from inward.results import Attribution, Driven, Perturbation, Result, Visualization


@dataclass(frozen=True)
class Method:
    """A row: the name in manifests, the command that runs it, what it takes and gives."""

    name: str
    command: str
    function: Callable[..., Result]
    takes: str
    returns: type[Result]
    question: str
    paper: str
    shared: bool = False
    """Whether the images of a batch are changed together, so that what comes of one depends on the others."""


TABLE: tuple[Method, ...] = (
    Method(
        name="saliency",
        command="explain",
        function=saliency,
        takes="images",
        returns=Attribution,
        question="Which pixels does the answer hang on?",
        paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034",
    ),
    Method(
        name="gradient-x-input",
        command="explain",
        function=gradient_x_input,
        takes="images",
        returns=Attribution,
        question="How much does each pixel add, if the network were linear?",
        paper="Shrikumar, Greenside, Shcherbina and Kundaje 2016, arXiv:1605.01713",
    ),
    Method(
        name="smoothgrad",
        command="explain",
        function=smoothgrad,
        takes="images",
        returns=Attribution,
        question="Which pixels matter, once the noise of the gradient is averaged away?",
        paper="Smilkov, Thorat, Kim, Viégas and Wattenberg 2017, arXiv:1706.03825",
    ),
    Method(
        name="vargrad",
        command="explain",
        function=vargrad,
        takes="images",
        returns=Attribution,
        question="Where does the gradient change most when the image changes a little?",
        paper="Adebayo, Gilmer, Goodfellow and Kim 2018, arXiv:1810.03307",
    ),
    Method(
        name="squaregrad",
        command="explain",
        function=squaregrad,
        takes="images",
        returns=Attribution,
        question="Where is the gradient large, whatever its sign?",
        paper="Hooker, Erhan, Kindermans and Kim 2018, arXiv:1806.10758",
    ),
    Method(
        name="integrated-gradients",
        command="explain",
        function=integrated_gradients,
        takes="images",
        returns=Attribution,
        question="Which share of the score does each pixel have, compared with a baseline?",
        paper="Sundararajan, Taly and Yan 2017, arXiv:1703.01365",
    ),
    Method(
        name="blur-integrated-gradients",
        command="explain",
        function=blur_integrated_gradients,
        takes="images",
        returns=Attribution,
        question="Which share does each pixel have, as the image comes into focus?",
        paper="Xu, Venugopalan and Sundararajan 2020, arXiv:2004.03383",
    ),
    Method(
        name="guided-integrated-gradients",
        command="explain",
        function=guided_integrated_gradients,
        takes="images",
        returns=Attribution,
        question="Which share does each pixel have, on the path of least noise?",
        paper="Kapishnikov, Venugopalan, Avci, Wedin, Terry and Bolukbasi 2021, arXiv:2106.09788",
    ),
    Method(
        name="expected-gradients",
        command="explain",
        function=expected_gradients,
        takes="images",
        returns=Attribution,
        question="Which share does each pixel have, compared with many images?",
        paper="Erion, Janizek, Sturmfels, Lundberg and Lee 2021, arXiv:1906.10670",
    ),
    Method(
        name="deeplift",
        command="explain",
        function=deeplift,
        takes="images",
        returns=Attribution,
        question="Which share does each pixel have, by differences from a baseline instead of slopes?",
        paper="Shrikumar, Greenside and Kundaje 2017, arXiv:1704.02685",
    ),
    Method(
        name="lrp",
        command="explain",
        function=lrp,
        takes="images",
        returns=Attribution,
        question="Which share does each pixel have, handed back layer by layer?",
        paper="Bach, Binder, Montavon, Klauschen, Müller and Samek 2015, doi:10.1371/journal.pone.0130140",
    ),
    Method(
        name="guided-backpropagation",
        command="explain",
        function=guided_backpropagation,
        takes="images",
        returns=Attribution,
        question="Which fine structures are there that only excite?",
        paper="Springenberg, Dosovitskiy, Brox and Riedmiller 2014, arXiv:1412.6806",
    ),
    Method(
        name="deconvnet",
        command="explain",
        function=deconvnet,
        takes="images",
        returns=Attribution,
        question="Which pattern do the features that answered project back to?",
        paper="Zeiler and Fergus 2013, arXiv:1311.2901",
    ),
    Method(
        name="grad-cam",
        command="explain",
        function=grad_cam,
        takes="images",
        returns=Attribution,
        question="Which regions speak for the answer?",
        paper="Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra 2016, arXiv:1610.02391",
    ),
    Method(
        name="grad-cam-plus-plus",
        command="explain",
        function=grad_cam_plus_plus,
        takes="images",
        returns=Attribution,
        question="Which regions speak for the answer, where there are several of them?",
        paper="Chattopadhay, Sarkar, Howlader and Balasubramanian 2017, arXiv:1710.11063",
    ),
    Method(
        name="layer-cam",
        command="explain",
        function=layer_cam,
        takes="images",
        returns=Attribution,
        question="Which places speak for the answer, also in finer, earlier maps?",
        paper="Jiang, Zhang, Hou, Cheng and Wei 2021, doi:10.1109/TIP.2021.3089943",
    ),
    Method(
        name="score-cam",
        command="explain",
        function=score_cam,
        takes="images",
        returns=Attribution,
        question="Which regions raise the score when only they are shown?",
        paper="Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu 2019, arXiv:1910.01279",
    ),
    Method(
        name="attention-rollout",
        command="explain",
        function=attention_rollout,
        takes="images",
        returns=Attribution,
        question="Which patches does the attention of a transformer gather from?",
        paper="Abnar and Zuidema 2020, arXiv:2005.00928",
    ),
    Method(
        name="occlusion",
        command="explain",
        function=occlusion,
        takes="images",
        returns=Attribution,
        question="How far does the score fall when a window is covered?",
        paper="Zeiler and Fergus 2013, arXiv:1311.2901",
    ),
    Method(
        name="rise",
        command="explain",
        function=rise,
        takes="images",
        returns=Attribution,
        question="Which pixels are seen when the score stays high under random masks?",
        paper="Petsiuk, Das and Saenko 2018, arXiv:1806.07421",
    ),
    Method(
        name="lime",
        command="explain",
        function=lime,
        takes="images",
        returns=Attribution,
        question="Which areas of one color speak for the answer, by a linear model?",
        paper="Ribeiro, Singh and Guestrin 2016, arXiv:1602.04938",
    ),
    Method(
        name="conductance",
        command="explain",
        function=conductance,
        takes="images",
        returns=Attribution,
        question="Which units inside carry the difference from a baseline?",
        paper="Dhamdhere, Sundararajan and Yan 2018, arXiv:1805.12233",
    ),
    Method(
        name="neuron-conductance",
        command="explain",
        function=neuron_conductance,
        takes="images",
        returns=Attribution,
        question="Which pixels matter through this one unit?",
        paper="Dhamdhere, Sundararajan and Yan 2018, arXiv:1805.12233",
    ),
    Method(
        name="internal-influence",
        command="explain",
        function=internal_influence,
        takes="images",
        returns=Attribution,
        question="Which units inside does the score hang on, all the way from a baseline?",
        paper="Leino, Sen, Datta, Fredrikson and Li 2018, arXiv:1802.03788",
    ),
    Method(
        name="targeted-attack",
        command="attack",
        function=targeted_attack,
        takes="images",
        returns=Perturbation,
        question="Which small change makes it answer something else?",
        paper="Szegedy et al. 2013, arXiv:1312.6199; Kurakin et al. 2016, arXiv:1607.02533",
    ),
    Method(
        name="fgsm",
        command="attack",
        function=fgsm,
        takes="images",
        returns=Perturbation,
        question="Does a single step along the gradient fool it?",
        paper="Goodfellow, Shlens and Szegedy 2014, arXiv:1412.6572",
    ),
    Method(
        name="pgd",
        command="attack",
        function=pgd,
        takes="images",
        returns=Perturbation,
        question="Does any change inside a ball make it answer something else?",
        paper="Madry, Makelov, Schmidt, Tsipras and Vladu 2017, arXiv:1706.06083",
    ),
    Method(
        name="momentum-fgsm",
        command="attack",
        function=momentum_fgsm,
        takes="images",
        returns=Perturbation,
        question="Which change would fool other networks too?",
        paper="Dong et al. 2017, arXiv:1710.06081",
    ),
    Method(
        name="deepfool",
        command="attack",
        function=deepfool,
        takes="images",
        returns=Perturbation,
        question="How near is the nearest other class?",
        paper="Moosavi-Dezfooli, Fawzi and Frossard 2015, arXiv:1511.04599",
    ),
    Method(
        name="carlini-wagner",
        command="attack",
        function=carlini_wagner,
        takes="images",
        returns=Perturbation,
        question="What is the smallest l2 change that fools it, whatever it costs to find?",
        paper="Carlini and Wagner 2016, arXiv:1608.04644",
    ),
    Method(
        name="fmn",
        command="attack",
        function=fmn,
        takes="images",
        returns=Perturbation,
        question="What is the smallest change that fools it, in any norm?",
        paper="Pintor, Roli, Brendel and Biggio 2021, arXiv:2102.12827",
    ),
    Method(
        name="fab",
        command="attack",
        function=fab,
        takes="images",
        returns=Perturbation,
        question="How near is the boundary, walking along it towards the image?",
        paper="Croce and Hein 2019, arXiv:1907.02044",
    ),
    Method(
        name="apgd",
        command="attack",
        function=apgd,
        takes="images",
        returns=Perturbation,
        question="Does a search without a step size to tune make it answer something else?",
        paper="Croce and Hein 2020, arXiv:2003.01690",
    ),
    Method(
        name="square",
        command="attack",
        function=square,
        takes="images",
        returns=Perturbation,
        question="Can it be fooled by one who sees only its scores?",
        paper="Andriushchenko, Croce, Flammarion and Hein 2020, arXiv:1912.00049",
    ),
    Method(
        name="sparse-rs",
        command="attack",
        function=sparse_rs,
        takes="images",
        returns=Perturbation,
        question="Can a few pixels fool it, or one?",
        paper="Croce, Andriushchenko, Singh, Flammarion and Hein 2020, arXiv:2006.12834",
    ),
    Method(
        name="noise",
        command="attack",
        function=noise,
        takes="images",
        returns=Perturbation,
        question="Does random noise of that size fool it, without any search?",
        paper="Fawzi, Moosavi-Dezfooli and Frossard 2016, arXiv:1608.08967",
    ),
    Method(
        name="blur",
        command="attack",
        function=blur,
        takes="images",
        returns=Perturbation,
        question="How blurred may it be before the answer changes?",
        paper="Dodge and Karam 2016, arXiv:1604.04004",
    ),
    Method(
        name="universal-pgd",
        command="attack",
        function=universal_pgd,
        takes="images",
        returns=Perturbation,
        question="Is there one change that fools it whatever the picture?",
        paper="Shafahi, Najibi, Xu, Dickerson, Davis and Goldstein 2018, arXiv:1811.11304",
        shared=True,
    ),
    Method(
        name="patch",
        command="attack",
        function=patch,
        takes="images",
        returns=Perturbation,
        question="Is there a sticker that fools it wherever it lies?",
        paper="Brown, Mané, Roy, Abadi and Gilmer 2017, arXiv:1712.09665",
        shared=True,
    ),
    Method(
        name="autoattack",
        command="attack",
        function=autoattack,
        takes="images",
        returns=Perturbation,
        question="How many answers withstand the standard sequence of attacks?",
        paper="Croce and Hein 2020, arXiv:2003.01690",
    ),
    Method(
        name="feature-attack",
        command="attack",
        function=feature_attack,
        takes="images",
        returns=Driven,
        question="How far does a small change move anything inside, or make it look like another picture?",
        paper="Sabour, Cao, Faghri and Fleet 2015, arXiv:1511.05122",
    ),
    Method(
        name="feature-visualization",
        command="visualize",
        function=visualize,
        takes="addresses",
        returns=Visualization,
        question="What does this unit look for?",
        paper="Olah, Mordvintsev and Schubert 2017, doi:10.23915/distill.00007",
    ),
    Method(
        name="class-visualization",
        command="visualize",
        function=class_visualization,
        takes="addresses",
        returns=Visualization,
        question="What does this class look like, by the classic recipe?",
        paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034; Yosinski et al. 2015, arXiv:1506.06579",
    ),
)


def by_name(name: str) -> Method:
    """The row of a method. Raises CallError naming those there are."""
    for row in TABLE:
        if row.name == name:
            return row
    raise CallError(f"there is no method '{name}'; there are {', '.join(row.name for row in TABLE)}")
