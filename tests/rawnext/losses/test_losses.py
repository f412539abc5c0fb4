# SPDX-License-Identifier: Apache-2.0
"""Losses: published numbers, values by hand, another library's values, and properties of every registered loss."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rawnext.losses import LOSSES, pairwise

P, K, D = 6, 2, 16
METRIC = {"prototypical": "proto", "angular_prototypical": "angleproto", "ge2e": "ge2e"}
HARDEST = {"hard_rank": 0, "hard_prob": 1.0}


@pytest.fixture(scope="module")
def reference(parity):
    return np.load(parity / "losses.npz")


def tensor(reference, key):
    return torch.from_numpy(reference[key]).to(torch.int64 if reference[key].dtype.kind == "i" else torch.float64)


def relative_error(ours, theirs):
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


def check(reference, case, loss, x):
    """Loss and gradient of the embeddings agree with the reference to float64 precision."""
    loss.backward()
    assert loss.item() == pytest.approx(float(reference[f"{case}/loss_f64"]), rel=1e-12)
    assert relative_error(x.grad, tensor(reference, f"{case}/grad_x_f64")) < 1e-9


def batch(seed=0, speakers=P, utts=K, spread=0.3, dtype=torch.float64):
    """Speaker-major embeddings (P*K, D) in clusters, and labels."""
    rng = torch.Generator().manual_seed(seed)
    centre = torch.randn(speakers, 1, D, generator=rng, dtype=dtype)
    x = centre + spread * torch.randn(speakers, utts, D, generator=rng, dtype=dtype)
    return x.flatten(0, 1), torch.arange(speakers).repeat_interleave(utts)


def classifier(reference, name, **options):
    """A margin or softmax loss with the reference's weights."""
    weight = tensor(reference, "clf/weight")
    loss = LOSSES.build(name, options, weight.shape[1], len(weight)).double()
    with torch.no_grad():
        if name == "softmax":
            loss.linear.weight.copy_(weight)
            loss.linear.bias.copy_(tensor(reference, "clf/bias"))
        else:
            loss.weight.copy_(weight)
    return loss


def test_classification_losses_equal_the_reference(reference):
    cases = {case: about for case, about in json.loads(str(reference["meta"]))["cases"].items()
             if about["kind"] == "classification"}
    assert len(cases) == 7
    for case, about in cases.items():
        options = {key: about[key] for key in ("margin", "scale", "easy_margin") if key in about}
        loss = classifier(reference, case.split("_")[0], **options)
        if case.startswith("am_"):
            loss.margin = float(np.float32(loss.margin))  # the reference holds it in a float32 tensor
        x = tensor(reference, "clf/x").requires_grad_()
        check(reference, case, loss(x, tensor(reference, "clf/label"))[0], x)
        weight = loss.linear.weight if case == "softmax" else loss.weight
        assert relative_error(weight.grad, tensor(reference, f"{case}/grad_weight_f64")) < 1e-9


@pytest.mark.parametrize("name", METRIC)
@pytest.mark.parametrize("utts", [2, 3])
def test_prototypical_losses_equal_the_reference(reference, name, utts):
    case = f"{METRIC[name]}_m{utts}"
    x = tensor(reference, f"metric_m{utts}/x").requires_grad_()
    loss = LOSSES.build(name, {"utts_per_speaker": utts}, x.shape[-1], 20).double()
    check(reference, case, loss(x.flatten(0, 1), torch.arange(12).repeat_interleave(utts))[0], x)
    if name != "prototypical":
        assert float(loss.w.grad) == pytest.approx(float(reference[f"{case}/grad_w_f64"]), rel=1e-9)
        assert float(loss.b.grad) == pytest.approx(float(reference[f"{case}/grad_b_f64"]), abs=1e-12)


@pytest.mark.parametrize("margin", [0.1, 0.4])
def test_triplet_equals_the_reference(reference, margin):
    case = f"triplet_m{margin}"
    x = tensor(reference, "metric_m2/x").requires_grad_()
    loss = LOSSES.build("triplet", {"margin": margin, **HARDEST}, x.shape[-1], 20)
    anchor, positive = F.normalize(x[:, 0].detach()), F.normalize(x[:, 1].detach())
    found = loss.choose_negatives(torch.cdist(anchor, positive) ** 2)
    assert found.tolist() == reference[f"{case}/negative_index"].tolist()
    check(reference, case, loss(x.flatten(0, 1), torch.arange(12).repeat_interleave(2))[0], x)


@pytest.mark.parametrize("case, shape", [("aam_ap_intended", (12, 2, 48)),
                                         ("aam_ap_released_trainer_view", (24, 2, 24))])
def test_sum_of_aam_and_angular_prototypical_equals_the_reference(reference, case, shape):
    x = tensor(reference, "aam_ap/x").requires_grad_()
    aam = classifier(reference, "aam", margin=0.25, scale=32)
    prototypes = LOSSES.build("angular_prototypical", {}, shape[-1], 20).double()
    label = tensor(reference, "aam_ap/speaker_label").repeat_interleave(2)
    seen = x.reshape(shape)
    total = (aam(x.flatten(0, 1), label)[0]
             + prototypes(seen.flatten(0, 1), torch.arange(len(seen)).repeat_interleave(2))[0])
    check(reference, case, total, x)


# --- every registered loss

VARIANTS = [("am", {"subcenters": 2, "topk": 2}), ("aam", {"subcenters": 2, "topk": 2}),
            ("a_softmax", {"last_lambda": 0.0}), ("triplet", {"mining": "batch_hard"}),
            ("triplet", {"mining": "semihard"}), ("triplet", {"mining": "all"})]


@pytest.fixture(params=[*((name, {}) for name in sorted(LOSSES)), *VARIANTS], ids=lambda case: f"{case[0]}{case[1]}")
def loss(request):
    torch.manual_seed(1)
    return LOSSES.build(*request.param, D, P).double()


def fit(loss, x):
    """Give a loss the weights that fit embeddings x (P * K, D)."""
    if hasattr(loss, "logit"):  # distances above 0.7 a dimension are between speakers
        loss.linear.bias.data.fill_(-0.7)
    elif hasattr(loss, "weight") or hasattr(loss, "linear"):
        weight = loss.weight if hasattr(loss, "weight") else loss.linear.weight
        weight.data.copy_(x[::K].repeat_interleave(len(weight) // P, dim=0))


def test_every_loss_prefers_the_right_speaker(loss):
    """Embeddings that fit their speakers cost less than embeddings whose second utterances are exchanged."""
    x, label = batch()
    fit(loss, x)
    mixed = x.view(P, K, D).clone()
    mixed[:, 1] = mixed[:, 1].roll(1, dims=0)
    good, good_stats = loss(x, label)
    bad, bad_stats = loss(mixed.flatten(0, 1), label)
    assert good < bad
    assert good_stats["acc"] == 1 > bad_stats["acc"] >= 0
    assert good.ndim == 0 and good_stats["acc"].is_floating_point() and not good_stats["acc"].requires_grad


def test_every_loss_has_finite_gradients(loss):
    """Also if all utterances are equal, and if a class weight equals the embedding."""
    for x in (batch()[0], torch.ones(P * K, D, dtype=torch.float64)):
        x = x.clone().requires_grad_()
        fit(loss, x.detach())
        loss.zero_grad()
        loss(x, batch()[1])[0].backward()
        assert torch.isfinite(x.grad).all()
        for name, parameter in loss.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_every_loss_is_in_full_precision_under_autocast(loss):
    x, label = batch()
    x = x.bfloat16()
    torch.manual_seed(2)
    wanted = loss(x.double(), label)[0].item()
    loss = loss.float()
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, label)[0]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_order_of_speakers_does_not_matter(loss, monkeypatch):
    if hasattr(loss, "logit"):  # the same value for every choice of the other speaker
        monkeypatch.setattr(loss, "logit", lambda left, right: left.sum(-1))
    if hasattr(loss, "hard_rank"):
        loss.hard_rank, loss.hard_prob = 0, 1.0
    x, label = batch(spread=1.0)
    order = torch.randperm(P, generator=torch.Generator().manual_seed(3))
    moved = x.view(P, K, D)[order].flatten(0, 1), label.view(P, K)[order].flatten()
    assert loss(*moved)[0].item() == pytest.approx(loss(x, label)[0].item(), rel=1e-12)


# --- margins

def test_margin_losses_by_hand():
    """One embedding at 60 degrees from its speaker and 90 from the other."""
    x, label = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0])
    weight = torch.tensor([[0.5, math.sqrt(0.75)], [0.0, 1.0]]).double()

    def value(name, **options):
        loss = LOSSES.build(name, {"scale": 2.0, **options}, 2, 2).double()
        loss.weight.data.copy_(weight)
        return loss(x, label)[0].item()

    def by_hand(target):
        return math.log(math.exp(2 * target) + 1) - 2 * target

    assert value("am", margin=0.1) == pytest.approx(by_hand(0.4))
    assert value("aam", margin=0.2) == pytest.approx(by_hand(math.cos(math.pi / 3 + 0.2)))
    assert value("aam", margin=0.2, easy_margin=True) == pytest.approx(by_hand(math.cos(math.pi / 3 + 0.2)))
    weight[0, 0] = -0.5                                    # now at 120 degrees
    assert value("aam", margin=0.2, easy_margin=True) == pytest.approx(by_hand(-0.5))
    assert value("aam", margin=0.2) == pytest.approx(by_hand(math.cos(2 * math.pi / 3 + 0.2)))
    assert value("aam", margin=1.2) == pytest.approx(by_hand(-0.5 - 1.2 * math.sin(1.2)))  # 120 deg + 1.2 > 180 deg


@pytest.mark.parametrize("name", ["am", "aam"])
def test_margin_can_change_between_steps(name):
    """Margin warm-up: with margin 0 the loss is plain scaled cosine cross-entropy, and it grows with the margin."""
    loss = LOSSES.build(name, {}, D, P).double()
    x, label = batch()
    loss.margin = 0.0
    plain = F.cross_entropy(loss.scale * F.normalize(x) @ F.normalize(loss.weight).T, label)
    values = [loss(x, label)[0].item()]
    assert values[0] == pytest.approx(plain.item(), rel=1e-12)
    for loss.margin in (0.1, 0.2, 0.3):
        values.append(loss(x, label)[0].item())
    assert values == sorted(set(values))


@pytest.mark.parametrize("name", ["am", "aam"])
def test_accuracy_of_margin_losses_is_without_margin(name):
    """Cosine .8 to the own speaker and .6 to the other is correct, although the margin makes the former smaller."""
    loss = LOSSES.build(name, {"margin": 0.5}, 2, 2).double()
    loss.weight.data.copy_(torch.eye(2))
    assert loss(torch.tensor([[0.8, 0.6]]).double(), torch.tensor([0]))[1]["acc"] == 1


def test_defaults_and_initial_values():
    assert (LOSSES["am"](D, P).margin, LOSSES["am"](D, P).scale) == (0.3, 30)
    assert (LOSSES["aam"](D, P).margin, LOSSES["aam"](D, P).scale) == (0.25, 32)
    prototypes = LOSSES["angular_prototypical"](D, P)
    assert (float(prototypes.w), float(prototypes.b)) == (10, -5)
    torch.manual_seed(0)
    softmax, aam = LOSSES["softmax"](400, 600), LOSSES["aam"](400, 600)
    assert (softmax.linear.bias == 1e-4).all()
    bound = math.sqrt(6 / 1000)                            # Xavier-uniform; Xavier-normal has std sqrt(2 / 1000)
    assert 0.99 * bound < float(softmax.linear.weight.abs().max()) <= bound
    assert float(aam.weight.std()) == pytest.approx(math.sqrt(2 / 1000), rel=0.02)
    assert float(aam.weight.abs().max()) > 3.5 * math.sqrt(2 / 1000)


@pytest.mark.parametrize("name", ["am", "aam", "a_softmax"])
def test_margin_share(name):
    """Share 0 removes both margins; between 0 and 1 the loss grows."""
    options = {} if name == "a_softmax" else {"topk": 2}
    loss = LOSSES.build(name, options, D, P).double()
    x, label = batch(spread=1.0)
    scale = x.norm(dim=1, keepdim=True) if name == "a_softmax" else loss.scale
    plain = F.cross_entropy(scale * (F.normalize(x) @ F.normalize(loss.weight).T), label).item()
    values = []
    for loss.margin_share in (0.0, 0.3, 0.6, 1.0):
        values.append(loss(x, label)[0].item())
    assert values[0] == pytest.approx(plain, rel=1e-12)
    assert values == sorted(set(values))


def test_a_softmax_by_hand():
    """psi equals its definition; the logits are its mixture with the cosine, times the embedding's norm."""
    angle = torch.linspace(0, math.pi, 1001, dtype=torch.float64).requires_grad_()
    for m in (1, 2, 3, 4):
        loss = LOSSES.build("a_softmax", {"multiple": m}, 2, 2).double()
        wanted = []
        for a in angle.tolist():
            k = min(int(m * a / math.pi), m - 1)
            wanted.append((-1) ** k * math.cos(m * a) - 2 * k)
        found = loss.psi(angle.cos())
        near_edge = (m * angle.detach() / math.pi).frac().sub(0.5).abs() > 0.499  # rounding picks k
        assert torch.allclose(found, torch.tensor(wanted).double(), atol=1e-9), m
        slope = torch.autograd.grad(found.sum(), angle)[0]
        assert torch.allclose(slope[~near_edge], -m * (m * angle).sin().abs()[~near_edge], atol=1e-6), m
        opposite = torch.tensor(-1.0, dtype=torch.float64).requires_grad_()
        assert torch.autograd.grad(loss.psi(opposite), opposite)[0] == m * m  # a gradient towards the speaker even here
    x, label = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([1])
    loss = LOSSES.build("a_softmax", {"multiple": 2, "last_lambda": 3.0}, 2, 2).double()
    loss.weight.data.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.1]]))
    target = 5 * (3 * 0.8 + (2 * 0.8**2 - 1)) / 4
    assert loss(x, label)[0].item() == pytest.approx(math.log(math.exp(3) + math.exp(target)) - target, rel=1e-12)


def test_focal_by_hand():
    x, label = batch(spread=1.0)
    loss = LOSSES.build("focal", {"gamma": 1.5}, D, P).double()
    p = loss.linear(x).softmax(dim=1)[torch.arange(len(x)), label]
    assert loss(x, label)[0].item() == pytest.approx(float((-((1 - p) ** 1.5) * p.log()).mean()), rel=1e-9)
    loss.gamma = 0.5
    sure = (1e3 * loss.linear.weight.detach()[label]).requires_grad_()  # p = 1, where the root has no finite slope
    loss(sure, label)[0].backward()
    assert torch.isfinite(sure.grad).all()
    loss.gamma = 0.0
    assert loss(x, label)[0].item() == pytest.approx(float(F.cross_entropy(loss.linear(x), label)), rel=1e-12)


@pytest.mark.parametrize("name", ["am", "aam"])
def test_nearest_subcentre_counts(name):
    x, label = batch(spread=1.0)
    one = LOSSES.build(name, {}, D, P).double()
    three = LOSSES.build(name, {"subcenters": 3}, D, P).double()
    cosine = F.normalize(x) @ F.normalize(three.weight).T
    assert cosine.shape == (P * K, 3 * P)
    best = torch.stack([torch.stack([max(row[3 * s:3 * s + 3]) for s in range(P)]) for row in cosine])
    wanted = one.logits(x, best, label[:, None])
    assert three(x, label)[0].item() == pytest.approx(float(F.cross_entropy(wanted, label)), rel=1e-12)


@pytest.mark.parametrize("name, nearer", [("am", lambda c: c + 0.1), ("aam", lambda c: math.cos(math.acos(c) - 0.1))])
def test_topk_margin_by_hand(name, nearer):
    loss = LOSSES.build(name, {"margin": 0.0, "scale": 3.0, "topk": 2, "topk_margin": 0.1}, D, P).double()
    x, label = batch(spread=1.0)
    total = 0.0
    for row, own in zip((F.normalize(x) @ F.normalize(loss.weight).T).tolist(), label.tolist()):
        others = sorted((s for s in range(P) if s != own), key=lambda s, row=row: -row[s])[:2]
        logits = [3 * (nearer(c) if s in others else c) for s, c in enumerate(row)]
        total += math.log(sum(map(math.exp, logits))) - logits[own]
    assert loss(x, label)[0].item() == pytest.approx(total / len(x), rel=1e-9)
    few = LOSSES.build(name, {"topk": 99}, D, P).double()
    assert few.topk == P - 1 and torch.isfinite(few(x, label)[0])


# --- metric losses

def test_ge2e_equals_a_loop_over_utterances():
    x, label = batch(spread=1.5, utts=3)
    x = x.view(P, 3, D)
    total = 0.0
    for p in range(P):
        for k in range(3):
            means = x.mean(dim=1)
            means[p] = x[p, [j for j in range(3) if j != k]].mean(dim=0)
            cosine = F.cosine_similarity(x[p, k][None], means).clamp(min=1e-6)
            total += float(F.cross_entropy((10 * cosine - 5)[None], torch.tensor([p])))
    loss = LOSSES.build("ge2e", {"utts_per_speaker": 3}, D, P).double()
    assert loss(x.flatten(0, 1), label)[0].item() == pytest.approx(total / (3 * P), rel=1e-12)


def distances(num=8, seed=0):
    return torch.rand(num, num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("hard_rank, hard_prob", [(0, 1.0), (2, 1.0), (10, 0.5), (3, 0.0), (-1, 0.5)])
def test_mining_draws_all_allowed_negatives_and_no_others(hard_rank, hard_prob):
    loss = LOSSES.build("triplet", {"hard_rank": hard_rank, "hard_prob": hard_prob, "margin": 0.2}, D, P)
    distance = distances()
    torch.manual_seed(0)
    drawn = torch.stack([loss.choose_negatives(distance) for _ in range(400)], dim=1)
    for row, columns in enumerate(drawn.tolist()):
        others = [c for c in range(8) if c != row]
        closest = sorted(others, key=lambda c: distance[row, c])
        allowed = set(closest[:hard_rank + 1]) if hard_prob == 1 else set(others)
        if hard_rank < 0:
            own = distance[row, row]
            allowed = {c for c in others if own < distance[row, c] < own + 0.2} or set(others)
        assert set(columns) == allowed                     # all of them and no others


def test_hard_prob_is_the_share_of_hard_negatives():
    loss = LOSSES.build("triplet", {"hard_rank": 0, "hard_prob": 0.5}, D, P)
    distance = distances(64)
    closest = distance.clone().fill_diagonal_(9).argmin(dim=1)
    torch.manual_seed(0)
    share = torch.stack([loss.choose_negatives(distance) == closest for _ in range(100)]).double().mean()
    assert float(share) == pytest.approx(0.5 + 0.5 / 63, abs=0.02)


@pytest.mark.parametrize("name", [*METRIC, "triplet", "contrastive", "siamese"])
def test_metric_losses_refuse_a_batch_that_is_not_speaker_major(name):
    loss = LOSSES.build(name, {}, D, P).double()
    x, label = batch()
    with pytest.raises(ValueError, match="not speaker-major"):
        loss(x, label.roll(1))
    with pytest.raises(ValueError, match="not 2 of every speaker"):
        loss(x[1:], label[1:])
    with pytest.raises(ValueError, match="no other speaker"):
        loss(x[:2], label[:2])
    with pytest.raises(ValueError, match="2 or more"):
        LOSSES.build(name, {"utts_per_speaker": 1}, D, P)


# --- pairs and triplets of all utterances

def pairs(x, label):
    """(distance of unit vectors, same speaker?) of every two utterances."""
    unit = F.normalize(x)
    return [(float((unit[i] - unit[j]).norm()), bool(label[i] == label[j]))
            for i in range(len(x)) for j in range(len(x)) if i != j]


@pytest.mark.parametrize("utts", [2, 3])
def test_contrastive_by_hand(utts):
    x, label = batch(spread=1.0, utts=utts)
    loss = LOSSES.build("contrastive", {"margin": 1.3, "utts_per_speaker": utts}, D, P)
    near = [d * d / 2 for d, same in pairs(x, label) if same]
    far = [max(0, 1.3 - d) ** 2 / 2 for d, same in pairs(x, label) if not same]
    assert any(far)
    assert loss(x, label)[0].item() == pytest.approx(np.mean(near) / 2 + np.mean(far) / 2, rel=1e-9)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("mining", ["batch_hard", "semihard", "all"])
def test_mined_triplets_by_hand(mining, squared):
    margin, utts = 0.3, 3
    x, label = batch(spread=1.0, utts=utts)
    unit = F.normalize(x)
    d = torch.cdist(unit, unit) ** (2 if squared else 1)
    values = []
    for a in range(len(x)):
        own = [d[a, p] for p in range(len(x)) if p != a and label[p] == label[a]]
        others = [d[a, n] for n in range(len(x)) if label[n] != label[a]]
        triplets = [(max(own), min(others))] if mining == "batch_hard" else [(p, n) for p in own for n in others]
        if mining == "semihard":
            triplets = [(p, n) for p, n in triplets if p < n <= p + margin]
        if mining == "all":
            triplets = [(p, n) for p, n in triplets if n <= p + margin]
        values += [max(0.0, float(p - n + margin)) for p, n in triplets]
    options = {"mining": mining, "margin": margin, "squared": squared, "utts_per_speaker": utts}
    loss, stats = LOSSES.build("triplet", options, D, P)(x, label)
    assert len(values) > 5
    assert loss.item() == pytest.approx(np.mean(values), rel=1e-9)
    nearest = (d + 9 * torch.eye(len(x))).argmin(dim=1)
    assert float(stats["acc"]) == pytest.approx(float((label[nearest] == label).float().mean()))


def test_all_triplets_equal_pytorch_metric_learning():
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss

    x, label = batch(spread=1.0)
    theirs, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    TripletMarginLoss(margin=0.2, distance=LpDistance(power=2))(theirs, label).backward()
    LOSSES.build("triplet", {"mining": "all", "margin": 0.2}, D, P)(ours, label)[0].backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_loss_is_zero_without_triplets():
    x, label = batch(spread=1e-3)
    x = x.requires_grad_()
    loss = LOSSES.build("triplet", {"mining": "semihard"}, D, P)(x, label)[0]
    loss.backward()
    assert loss == 0 and (x.grad == 0).all()


@pytest.mark.parametrize("utts", [2, 3])
def test_siamese_by_hand(utts, monkeypatch):
    """Equally many same-speaker (0) and different-speaker (1) pairs, here of each speaker and the next."""
    x, label = batch(spread=1.0, utts=utts)
    loss = LOSSES.build("siamese", {"utts_per_speaker": utts}, D, P).double()
    torch.nn.init.normal_(loss.linear.weight)
    following = ((torch.arange(P) + 1) % P)[:, None].expand(P, utts - 1)
    monkeypatch.setattr(pairwise, "other_speakers", lambda num, like: following)
    value, stats = loss(x, label)
    costs, hits = [], []
    for p in range(P):
        for k in range(utts - 1):
            for q, different in ((p, False), ((p + 1) % P, True)):
                e1, e2 = x.view(P, utts, D)[p, k], x.view(P, utts, D)[q, k + 1]
                z = float((loss.linear.weight @ (e1 - e2).abs() + loss.linear.bias).detach())
                costs.append(math.log1p(math.exp(-z if different else z)))
                hits.append((z > 0) == different)
    assert value.item() == pytest.approx(np.mean(costs), rel=1e-9)
    assert float(stats["acc"]) == pytest.approx(np.mean(hits))
    with torch.no_grad():
        assert torch.equal(loss.logit(x[0], x[1]), loss.logit(x[1], x[0]))


def test_other_speakers_are_never_the_own():
    torch.manual_seed(0)
    drawn = torch.stack([pairwise.other_speakers(5, torch.empty(5, 3)) for _ in range(200)])
    assert drawn.shape == (200, 5, 3)
    for row in range(5):
        assert set(drawn[:, row].flatten().tolist()) == set(range(5)) - {row}
    assert (drawn[:, :, 0] != drawn[:, :, 1]).any()


@pytest.mark.parametrize("name, options, why", [
    ("aam", {"subcenters": 0}, "subcenters must be 1 or more"), ("am", {"topk": -1}, "topk must be 0 or more"),
    ("focal", {"gamma": -1}, "gamma must be 0 or more"), ("triplet", {"mining": "hard"}, "mining must be rank, batch"),
    ("a_softmax", {"multiple": 2.5}, "whole number"), ("a_softmax", {"last_lambda": -1}, "0 or more"),
    ("aam", {"margin": "wide"}, "loss aam cannot be built with margin: wide: could not convert")])
def test_errors_name_the_wrong_value(name, options, why):
    with pytest.raises(ValueError, match=why):
        LOSSES.build(name, options, D, P)
