"""The rows of the command attack."""

from __future__ import annotations

from inward.methods.apgd import apgd
from inward.methods.attacks import fgsm, momentum_fgsm, pgd, targeted_attack
from inward.methods.autoattack import autoattack
from inward.methods.blur import blur
from inward.methods.carlini_wagner import carlini_wagner
from inward.methods.ddn import ddn
from inward.methods.deepfool import deepfool
from inward.methods.fab import fab
from inward.methods.fast_minimum import fmn
from inward.methods.feature_attack import feature_attack
from inward.methods.method import Method
from inward.methods.noise import noise
from inward.methods.patch import patch
from inward.methods.sparse_rs import sparse_rs
from inward.methods.square import square
from inward.methods.universal import universal_pgd
from inward.results import Driven, Perturbation

ATTACK: tuple[Method, ...] = (
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
        name="ddn",
        command="attack",
        function=ddn,
        takes="images",
        returns=Perturbation,
        question="What is the smallest l2 change that fools it, found in a few passes?",
        paper="Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger 2018, arXiv:1811.09600",
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
)
