"""Whose batch an old front end means: its query names the tenant or the user, the credential decides.

With keys the name has to agree with the credential. Without them the caller is the operator on this
machine, and the name chooses the tenant or the owner.
"""

import msgspec

from services.gateway.access import Caller
from services.gateway.problems import InvalidFields
from tanda.contracts.subjects import is_tenant
from tanda.domain.errors import Refusal


def of_company(caller: Caller, company_id: str | None) -> Caller:
    """The caller within the company that ``company_id`` names; 403 where it is not the key's."""
    if not company_id:
        return caller
    if not caller.operator and company_id != caller.tenant:
        raise _disagrees("company_id")
    if not is_tenant(company_id):
        raise InvalidFields(("company_id", "1 to 64 letters, digits, hyphens and underscores"))
    return msgspec.structs.replace(caller, tenant=company_id, operator=False)


def owner_named(caller: Caller, field: str, user_id: str | None) -> str | None:
    """The user that a query names; 403 where the key is somebody else's.

    A key's user is its tenant, or whom the client names in ``Tanda-Actor``.
    """
    if not user_id:
        return None
    if not caller.operator and user_id != caller.actor:
        raise _disagrees(field)
    return user_id


def _disagrees(field: str) -> Refusal:
    return Refusal("credential_mismatch", f"{field} names somebody else than the credential.", status=403)
