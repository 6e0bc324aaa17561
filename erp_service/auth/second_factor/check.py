"""Using up a code: each works once, on all instances together. The callers hold a lock on the user's row, so of two
with one code the second sees it as used."""

from sqlalchemy import Double, cast, delete, func, select, update

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.auth.second_factor import codes
from erp_service.auth.second_factor.encryption import SecretBox
from erp_service.auth.second_factor.models import RecoveryCode, SecondFactor
from erp_service.db.sessions import Session, WriteSession

# one clock for all instances
UNIX_TIME = cast(func.extract("epoch", func.clock_timestamp()), Double)


async def use_code(db: WriteSession, box: SecretBox, who: Principal, user_id: int, typed: str) -> bool:
    """Whether it is a code of the user's device, or a recovery code, that was not used before; from now on it was.

    Raises errors.Unavailable if the secret cannot be decrypted."""
    code = codes.plain(typed)
    if codes.is_totp(code):
        return await _use_totp(db, box, user_id, code)
    return await _use_recovery_code(db, who, user_id, code)


async def _use_totp(db: WriteSession, box: SecretBox, user_id: int, code: str) -> bool:
    statement = select(SecondFactor.secret, SecondFactor.last_step, UNIX_TIME.label("now"))
    row = (await db.execute(statement.where(SecondFactor.user_id == user_id))).one_or_none()
    if row is None or row.secret is None:
        return False
    step = codes.matching_step(box.open(row.secret), code, now=row.now, after=row.last_step)
    if step is None:
        return False
    await db.execute(update(SecondFactor).where(SecondFactor.user_id == user_id).values(last_step=step))
    return True


async def _use_recovery_code(db: WriteSession, who: Principal, user_id: int, code: str) -> bool:
    digest = codes.recovery_digest(code)
    used = delete(RecoveryCode).where(RecoveryCode.user_id == user_id, RecoveryCode.digest == digest)
    if not await db.row_count(used):
        return False
    left = await recovery_codes(db, user_id)
    await record(db, who, "user.recovery_code_used", user_id, after={"left": left})
    return True


async def recovery_codes(db: Session, user_id: int) -> int:
    """How many are left."""
    count: int = await db.scalar(select(func.count()).where(RecoveryCode.user_id == user_id))
    return count


async def remove_second_factor(db: WriteSession, user_id: int) -> None:
    """With its recovery codes, and a new one that was begun."""
    await db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    await db.execute(delete(SecondFactor).where(SecondFactor.user_id == user_id))
