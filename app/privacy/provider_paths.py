"""Where providers have personal data that no name of a field gives away.

Paths are of a payload's values, ``*`` for any item or field; the whole text there is of the kind.
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["PROVIDER_PATHS"]

PROVIDER_PATHS: Final[Mapping[str, Mapping[str, str]]] = {
    "github": {
        "commits.*.author.name": "name",
        "commits.*.committer.name": "name",
        "head_commit.author.name": "name",
        "head_commit.committer.name": "name",
        "pusher.name": "name",
    },
    "gitlab": {"user_name": "name", "user.name": "name", "commits.*.author.name": "name"},
    "bitbucket": {"actor.display_name": "name", "*.author.display_name": "name"},
    "slack": {
        "event.user.real_name": "name",
        "event.user.profile.display_name": "name",
        "user.name": "name",
    },
    "stripe": {
        "data.object.customer_details.name": "name",
        "data.object.receipt_email": "email",
    },
    "shopify": {"customer.default_address.name": "name", "browser_ip": "ip"},
    "twilio": {"From": "phone", "To": "phone", "Caller": "phone", "Called": "phone"},
    "whatsapp": {
        "entry.*.changes.*.value.contacts.*.profile.name": "name",
        "entry.*.changes.*.value.contacts.*.wa_id": "phone",
        "entry.*.changes.*.value.messages.*.from": "phone",
        "entry.*.changes.*.value.statuses.*.recipient_id": "phone",
    },
    "telegram": {
        "message.from.first_name": "name",
        "message.from.last_name": "name",
        "message.contact.phone_number": "phone",
    },
    "jira": {"user.displayName": "name", "issue.fields.*.displayName": "name"},
    "zendesk": {"ticket.requester.name": "name"},
    "typeform": {"form_response.hidden.name": "name"},
    "calendly": {"payload.name": "name", "payload.text_reminder_number": "phone"},
    "docusign": {"data.envelopeSummary.recipients.signers.*.name": "name"},
}
