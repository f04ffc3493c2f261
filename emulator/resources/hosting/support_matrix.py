"""What becomes of each member of CreateModel, CreateEndpointConfig and CreateEndpoint."""

from __future__ import annotations

from emulator.resources.support_matrix import Member, SupportMatrix, acts, echoes, refuses

_ENCRYPTION = "nothing is encrypted on this machine"


def _container(prefix: str) -> tuple[Member, ...]:
    return (
        acts(prefix, "started as `docker run IMAGE serve`"),
        acts(f"{prefix}.ContainerHostname", "of TargetContainerHostname and in log streams"),
        acts(f"{prefix}.Image", "must exist (EMULATOR_IMAGES)"),
        echoes(f"{prefix}.ImageConfig", "the Docker engine's own logins are used"),
        acts(f"{prefix}.Mode", "MultiModel: TargetModel names an archive below the prefix"),
        acts(f"{prefix}.ModelDataUrl", "a tar.gz, unpacked into /opt/ml/model"),
        acts(f"{prefix}.ModelDataSource", ""),
        *_source(f"{prefix}.ModelDataSource.S3DataSource"),
        acts(
            f"{prefix}.AdditionalModelDataSources[]",
            "in /opt/ml/additional-model-data-sources/<ChannelName>",
        ),
        *_source(f"{prefix}.AdditionalModelDataSources[].S3DataSource"),
        acts(f"{prefix}.Environment", "in the environment of the container"),
        refuses(f"{prefix}.ModelPackageName", "there is no model registry"),
        echoes(f"{prefix}.InferenceSpecificationName", "there is no model registry"),
        echoes(f"{prefix}.MultiModelConfig", "models stay loaded until memory is short"),
        echoes(f"{prefix}.ContainerMetricsConfig", "the container's own metrics are not read"),
    )


def _source(prefix: str) -> tuple[Member, ...]:
    return (
        acts(prefix, "S3Prefix, S3Object; Gzip, None"),
        echoes(f"{prefix}.ModelAccessConfig", "nobody asks for the licence"),
        refuses(f"{prefix}.HubAccessConfig", "there is no hub"),
        refuses(f"{prefix}.ManifestS3Uri", "name a prefix instead"),
        echoes(f"{prefix}.ETag", "the object is taken as it is"),
        echoes(f"{prefix}.ManifestEtag", "manifests are not read"),
    )


MODEL = SupportMatrix(
    (
        acts("ModelName", "unique in an account and region"),
        *_container("PrimaryContainer"),
        *_container("Containers[]"),
        acts("InferenceExecutionConfig", "Serial: a pipeline; Direct: TargetContainerHostname"),
        acts("ExecutionRoleArn", "must exist once the setting `roles` names some"),
        acts("Tags[]", "ListTags, AddTags, DeleteTags"),
        echoes("VpcConfig", "endpoints have a network of their own on this machine"),
        acts("EnableNetworkIsolation", "the containers reach nothing outside"),
    )
)


def _variant(prefix: str) -> tuple[Member, ...]:
    return (
        acts(prefix, ""),
        acts(f"{prefix}.VariantName", "in log streams and metrics"),
        acts(f"{prefix}.ModelName", "absent: inference components are put on the variant"),
        acts(f"{prefix}.InitialInstanceCount", "a container or a sandbox each"),
        acts(
            f"{prefix}.InstanceType",
            "its GPUs are leased from this machine's; arm64 and Inferentia types are refused",
        ),
        refuses(f"{prefix}.InstancePools[]", "name one InstanceType instead"),
        echoes(f"{prefix}.VariantInstanceProvisionTimeoutInSeconds", "instances wait for capacity"),
        acts(f"{prefix}.InitialVariantWeight", "share of the requests = weight / sum of weights"),
        refuses(f"{prefix}.AcceleratorType", "elastic inference is no more"),
        echoes(f"{prefix}.CoreDumpConfig", "core dumps are not taken"),
        acts(f"{prefix}.ServerlessConfig", "an instance that is there only while requests come"),
        echoes(f"{prefix}.ServerlessConfig.ProvisionedConcurrency", "it starts with a request"),
        echoes(f"{prefix}.VolumeSizeInGB", "disks are not limited"),
        acts(f"{prefix}.ModelDataDownloadTimeoutInSeconds", ""),
        acts(f"{prefix}.ContainerStartupHealthCheckTimeoutInSeconds", "4 minutes by default"),
        echoes(f"{prefix}.EnableSSMAccess", "there is no Systems Manager"),
        acts(f"{prefix}.ManagedInstanceScaling", ""),
        acts(f"{prefix}.ManagedInstanceScaling.MinInstanceCount", "0: idle instances end"),
        echoes(f"{prefix}.ManagedInstanceScaling.MaxInstanceCount", "there is no scale-out"),
        echoes(f"{prefix}.ManagedInstanceScaling.ScaleInPolicy", "the emulator has its own"),
        acts(f"{prefix}.RoutingConfig", "RANDOM; all others are the least outstanding requests"),
        echoes(f"{prefix}.RoutingConfig.PrefixAwareRoutingConfig", "prefixes are not looked at"),
        echoes(f"{prefix}.InferenceAmiVersion", "the machine's own driver is used"),
        echoes(f"{prefix}.CapacityReservationConfig", "nothing is reserved on this machine"),
        refuses(f"{prefix}.AcceleratorPartitionLayouts[]", "MIG is set up by the machine's owner"),
    )


CONFIG = SupportMatrix(
    (
        acts("EndpointConfigName", "unique in an account and region"),
        *_variant("ProductionVariants[]"),
        acts("DataCaptureConfig", "a JSONL file a minute or megabyte"),
        echoes("DataCaptureConfig.KmsKeyId", _ENCRYPTION),
        acts("Tags[]", "ListTags, AddTags, DeleteTags"),
        echoes("KmsKeyId", _ENCRYPTION),
        acts("AsyncInferenceConfig", "a queue that survives a restart"),
        echoes("AsyncInferenceConfig.OutputConfig.KmsKeyId", _ENCRYPTION),
        echoes("AsyncInferenceConfig.OutputConfig.NotificationConfig", "there is no SNS"),
        refuses("ExplainerConfig", "there is no Clarify"),
        *_variant("ShadowProductionVariants[]"),
        acts("ExecutionRoleArn", "of inference components"),
        echoes("VpcConfig", "endpoints have a network of their own on this machine"),
        acts("EnableNetworkIsolation", "the containers reach nothing outside"),
        echoes("MetricsConfig", "metrics are kept by the minute"),
        echoes("CrossRegionTrafficConfig", "there is one machine"),
    )
)

ENDPOINT = SupportMatrix(
    (
        acts("EndpointName", "unique in an account and region"),
        acts("EndpointConfigName", "kept as it was: it may be deleted while the endpoint serves"),
        echoes("DeploymentConfig", "an update moves all requests at once"),
        refuses("DeploymentConfig.AutoRollbackConfiguration", "there are no alarms"),
        acts("Tags[]", "ListTags, AddTags, DeleteTags"),
    )
)
