"""What becomes of each member of CreateTransformJob."""

from __future__ import annotations

from emulator.resources.support_matrix import SupportMatrix, acts, echoes, refuses

_ENCRYPTION = "nothing is encrypted on this machine"
_SOURCE = "TransformInput.DataSource.S3DataSource"

MATRIX = SupportMatrix(
    (
        acts("TransformJobName", "unique in an account and region; in logs"),
        acts("ModelName", ""),
        acts("MaxConcurrentTransforms", "to each instance; default: /execution-parameters, or 1"),
        acts("ModelClientConfig", "600 seconds and 3 retries by default"),
        acts("MaxPayloadInMB", "6 by default, 100 at most; 0: any size"),
        acts("BatchStrategy", "MultiRecord by default where the input is split"),
        acts("Environment", "beside the model's own variables"),
        acts("TransformInput", ""),
        acts(f"{_SOURCE}.S3DataType", "S3Prefix and ManifestFile"),
        acts("TransformInput.SplitType", "None, Line, RecordIO and TFRecord"),
        acts("TransformOutput", "an object each for those of the input, named KEY.out"),
        echoes("TransformOutput.KmsKeyId", _ENCRYPTION),
        refuses("DataCaptureConfig", "use an endpoint's"),
        acts("TransformResources", ""),
        echoes("TransformResources.VolumeKmsKeyId", _ENCRYPTION),
        echoes("TransformResources.TransformAmiVersion", "the machine's own driver is used"),
        acts("DataProcessing", "of text/csv and application/json"),
        acts("Tags[]", "ListTags, AddTags, DeleteTags"),
        echoes("ExperimentConfig", "there are no experiments"),
    )
)
