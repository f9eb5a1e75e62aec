"""Train the current graph, or an uploaded student, to answer as a teacher does (Hinton et al., 2015), also inside.

The teacher may be an assistant: what an earlier step trained (Mirzadeh et al., 2019). Hidden states: Sun et al., 2019
(patient distillation); with attention: Jiao et al., 2020 (TinyBERT).
"""

from collections.abc import Iterator, Sequence

from app.contracts.interface import difference
from app.contracts.steps.distill import Distill
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.guiding import Guidance
from workers.compute.autograd.training import Fit, fit
from workers.compute.graph.interfaces import interface_of, stood_in
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import Pair, pairs_of
from workers.compute.techniques.base import Context, Outcome, dataset_of, lasting, shrunk


def apply(model: Model, spec: Distill, context: Context) -> Outcome:
    """Return a copy, or the student, trained on the teacher's answers and, with alpha above 0, on labels.

    Raises TechniqueNotApplicable for a teacher or student that is not there, a student that takes or gives something
    else than `model`, and layers that cannot be matched.
    """
    dataset = dataset_of(context, "distill")
    teacher = _teacher(spec, context) if context.taught else None
    alpha = spec.alpha if dataset.labelled else 0.0
    student = _student(model, spec, context)
    guidance = None
    if teacher is not None:
        guidance = _guidance(student, teacher, spec, related=_related(spec, context))
    settings = Fit(
        epochs=spec.epochs or lasting(2.0, spec.batch_size, dataset),
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        patience=spec.patience,
        mixup=spec.mixup,
        max_minutes=spec.max_minutes,
        alpha=alpha,
        temperature=spec.temperature,
        floor=context.floor,
        seed=context.seed,
        device=context.device,
        threads=context.threads,
        guidance=guidance,
        logits=context.logits,
        finding=context.finding,
        keeper=context.keeper,
    )
    curve = fit(student, dataset, settings, teacher=teacher, progress=context.progress)
    notes = () if guidance is None else tuple(_notes(guidance))
    if spec.student is not None:
        notes = (f"the student took the upload's place: {shrunk(model, student)}", *notes)
    if alpha < spec.alpha:
        notes = ("the data has no labels: the student learned from the teacher alone", *notes)
    return Outcome(student, notes, curve)


def _related(spec: Distill, context: Context) -> bool:
    """Whether the student was made of the teacher, so that values of one name belong together."""
    own = spec.assistant or not context.replaced
    return own and spec.teacher is None and spec.student is None


def _guidance(student: Model, teacher: Model, spec: Distill, *, related: bool) -> Guidance | None:
    """Return what is matched inside, if anything is to be. Raises TechniqueNotApplicable where nothing can be."""
    if spec.hidden == 0 and spec.attention == 0:
        return None
    pairs = pairs_of(student, teacher, related=related)
    if spec.hidden > 0 and not pairs.hidden:
        raise TechniqueNotApplicable(_absent("hidden", "layers: regions that repeat or that a residual addition skips"))
    if spec.attention > 0 and not pairs.attention:
        raise TechniqueNotApplicable(_absent("attention", "layers with a softmax that a MatMul reads"))
    return Guidance(pairs, spec.hidden, spec.attention)


def _absent(option: str, what: str) -> str:
    return f"{option} needs {what}, in student and teacher, and there are none; set {option} to 0"


def _notes(guidance: Guidance) -> Iterator[str]:
    if guidance.hidden:
        yield f"hidden states matched to the teacher's (0 enters the first layer): {_listed(guidance.pairs.hidden, 0)}"
    if guidance.attention:
        yield f"attention of layers matched to the teacher's: {_listed(guidance.pairs.attention, 1)}"


def _listed(pairs: Sequence[Pair], first: int) -> str:
    return ", ".join(f"{pair.places[0] + first} to {pair.places[1] + first}" for pair in pairs)


def _teacher(spec: Distill, context: Context) -> Model:
    if spec.assistant and context.assistant is None:
        msg = "no step before has trained, so there is no assistant to learn from; leave assistant out"
        raise TechniqueNotApplicable(msg)
    if spec.assistant and context.assistant is not None:
        return context.assistant
    return context.original if spec.teacher is None else _named(spec.teacher, context, "teacher")


def _student(model: Model, spec: Distill, context: Context) -> Model:
    if spec.student is None:
        return model.clone()
    student = _named(spec.student, context, "student")
    if (why := difference(interface_of(model), interface_of(student))) is not None:
        msg = f"the student cannot take the upload's place: {why}; export it with the same inputs and outputs"
        raise TechniqueNotApplicable(msg)
    return stood_in(student, model)


def _named(model_id: str, context: Context, role: str) -> Model:
    if model_id not in context.models:
        msg = f"the {role} {model_id} was not given to this job; name a model that exists, or leave {role} out"
        raise TechniqueNotApplicable(msg)
    return context.models[model_id]
