"""What must hold of webhooks at any time."""

from erp_service.registry.proofs import Proof

PROOFS = (
    Proof(
        "webhooks",
        "no webhook was told of more than happened, each has a secret, and none waits for an event before its cursor",
        """
        select id, cursor, blocked_position, concat_ws(', ',
            case when cursor > head then 'its cursor is beyond the trail' end,
            case when blocked_position <= cursor then 'it waits for an event that it has passed' end,
            case when secrets <> 1 then 'it has not one present secret' end
          ) as fault
        from webhooks w
        cross join (select coalesce(max(position), 0) as head from trail) trail
        cross join lateral (
          select count(*) as secrets from webhook_secrets s where s.webhook_id = w.id and s.valid_until is null
        ) secret
        where cursor > head or blocked_position <= cursor or secrets <> 1
        """,
    ),
)
