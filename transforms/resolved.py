"""Settings with nothing left open: what `auto` and what is not given come to, with this model and on this machine."""

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.engines import has_int8, resolve
from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.ranges import find_ranges, try_int8
from rtdscan.transforms.settings import Precision, ScoreSettings


def resolve_settings(settings: ScoreSettings, bundle: Bundle) -> ScoreSettings:
    """Engine and precision of this machine, window and thresholds of the bundle, where settings leave them open.

    Raises:
        UserError: The model can't take such windows, a threshold contradicts its own, or the engine or precision that
            was asked for is not to be had here.
    """
    engine, precision = resolve(engine=settings.engine, precision=settings.precision, device=settings.device)
    if settings.precision == "auto" and engine == "openvino" and has_int8() and int8_serves(bundle):
        precision = "int8"
    if settings.window and settings.window > bundle.config.positions:
        raise UserError(
            f"window is {settings.window}; expected at most {bundle.config.positions}, the positions that "
            f"{bundle.name} knows"
        )
    window = settings.window or min(bundle.card.window, bundle.config.positions)
    thresholds = settings.thresholds.or_else(bundle.card.thresholds.model_dump())
    return settings.model_copy(
        update={"engine": engine, "precision": precision, "window": window, "thresholds": thresholds}
    )


def int8_serves(bundle: Bundle) -> bool:
    """Whether `precision: auto` may choose int8: by what the bundle's card says of labelled words, else by a trial."""
    return bundle.card.int8 if bundle.card.int8 is not None else try_int8(bundle).passed


def why_precision(asked: Precision, settings: ScoreSettings, bundle: Bundle) -> str | None:
    """Why `auto` chose the precision of resolved settings, for people; None where it was asked for."""
    if asked != "auto":
        return None
    if settings.engine != "openvino" or not has_int8():
        return f"{settings.precision}: the fastest of this machine"
    if bundle.card.int8 is None:
        return f"{settings.precision}: in int8 {try_int8(bundle).said()}"
    return f"{settings.precision}: int8 finds errors {'as' if bundle.card.int8 else 'less'} well, by the model's card"


def ranges_for(settings: ScoreSettings, bundle: Bundle) -> Ranges | None:
    """What int8 needs besides the bundle; None for any other precision."""
    return find_ranges(bundle) if settings.precision == "int8" else None
