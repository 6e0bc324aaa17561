"""Every feature's tables: the only such list. Alembic compares the database with it."""

from sqlalchemy import MetaData

from erp_service import idempotency_models as idempotency
from erp_service import ratelimit
from erp_service.audit import models as audit
from erp_service.auth import models as auth
from erp_service.db import Base
from erp_service.exports import models as exports
from erp_service.exports import schedule_models as schedules
from erp_service.inventory import models as inventory

FEATURES = (idempotency, ratelimit, audit, auth, inventory, exports, schedules)

metadata: MetaData = Base.metadata
