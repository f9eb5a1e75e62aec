"""Train on the labels, under every constraint that earlier steps left."""

from app.contracts.steps.retrain import Retrain
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.training import Fit, fit
from workers.compute.graph.model import Model
from workers.compute.techniques.base import Context, Outcome, dataset_of, lasting


def apply(model: Model, spec: Retrain, context: Context) -> Outcome:
    """Return a trained copy. Raises TechniqueNotApplicable without labels."""
    dataset = dataset_of(context, "retrain")
    if not dataset.labelled:
        msg = "retrain needs labels and the data has none; use distill with alpha 0, which learns from the upload"
        raise TechniqueNotApplicable(msg)
    trained = model.clone()
    settings = Fit(
        epochs=spec.epochs or lasting(2.0, spec.batch_size, dataset),
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        weight_decay=spec.weight_decay,
        patience=spec.patience,
        mixup=spec.mixup,
        max_minutes=spec.max_minutes,
        floor=context.floor,
        seed=context.seed,
        device=context.device,
        threads=context.threads,
        finding=context.finding,
        keeper=context.keeper,
    )
    return Outcome(trained, (), fit(trained, dataset, settings, progress=context.progress))
