"""What stands at the end of a network where it is not the network's own classifier."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CLOSED = ("svm", "knn", "prototype")  # heads that are fitted at once
Count = Annotated[int, Field(ge=1, le=10**7)]


class HeadSpec(BaseModel):
    """`stage`: the network ends after this stage, whose maps are averaged to one vector; None: the head reads what the
    network's own classifier did. `hidden`: width of an mlp's hidden layer. `pictures`: that knn compares with."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: Literal["linear", "mlp", "knn", "prototype"] = "linear"
    stage: Annotated[str, Field(max_length=100)] | None = None
    hidden: Count | None = None
    pictures: Count | None = None
