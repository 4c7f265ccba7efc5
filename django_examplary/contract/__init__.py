"""Compare this app's use of the API with an OpenAPI document of it.

`manage.py examplary_contract` is the command for it. The modules:

* `document`: read an OpenAPI 3.0 or 3.1 document;
* `validation`: find the reasons why a schema rejects a value;
* `examples` and `baseline`: every request that this release sends, and every field that it reads;
* `comparison`: the differences, in four groups;
* `settled`: the open questions of the API contract (section 14) that the document answers;
* `probe`: test the running service.
"""

from __future__ import annotations
