"""Train the current graph to answer as a teacher does (Hinton et al., 2015)."""

from app.contracts.steps.distill import Distill
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.training import Fit, fit
from workers.compute.graph.model import Model
from workers.compute.techniques.base import Context, Outcome, dataset_of


def apply(model: Model, spec: Distill, context: Context) -> Outcome:
    """Return a copy trained on the teacher's answers and, with alpha above 0, on labels."""
    dataset = dataset_of(context, "distill")
    teacher = _teacher(spec, context)
    alpha = spec.alpha if dataset.labelled else 0.0
    student = model.clone()
    settings = Fit(
        epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        patience=spec.patience,
        max_minutes=spec.max_minutes,
        alpha=alpha,
        temperature=spec.temperature,
        seed=context.seed,
        device=context.device,
        threads=context.threads,
    )
    curve = fit(student, dataset, settings, teacher=teacher, progress=context.progress)
    unlabelled = ("the data has no labels: the student learned from the teacher alone",)
    return Outcome(student, unlabelled if alpha < spec.alpha else (), curve)


def _teacher(spec: Distill, context: Context) -> Model:
    if spec.teacher is None:
        return context.original
    if spec.teacher not in context.teachers:
        msg = f"the teacher {spec.teacher} was not given to this job; name a model that exists, or leave teacher out"
        raise TechniqueNotApplicable(msg)
    return context.teachers[spec.teacher]
