"""Why a picture cannot be used."""


class BadPicture(Exception):
    """`reason`: a code for tables (truncated, empty, not_an_image, unsupported_format, too_many_pixels,
    metadata_bomb, ambiguous_range, channels, multi_frame, not_regular_file, permission, missing). `detail`: for
    people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
