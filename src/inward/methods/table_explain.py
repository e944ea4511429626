"""The rows of the command explain."""

from __future__ import annotations

from inward.methods.blur_integrated import blur_integrated_gradients
from inward.methods.cam import grad_cam, grad_cam_plus_plus, layer_cam
from inward.methods.conductance import conductance, neuron_conductance
from inward.methods.deeplift import deeplift
from inward.methods.expected_gradients import expected_gradients
from inward.methods.gradient_times_input import gradient_x_input
from inward.methods.guided import deconvnet, guided_backpropagation
from inward.methods.guided_integrated import guided_integrated_gradients
from inward.methods.influence import internal_influence
from inward.methods.integrated import integrated_gradients
from inward.methods.lrp import lrp
from inward.methods.method import Method
from inward.methods.occlusion import occlusion
from inward.methods.rise import rise
from inward.methods.rollout import attention_rollout
from inward.methods.saliency import saliency
from inward.methods.score_cam import score_cam
from inward.methods.smoothing import smoothgrad, squaregrad, vargrad
from inward.methods.superpixels import lime
from inward.results import Attribution

EXPLAIN: tuple[Method, ...] = (
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
)
