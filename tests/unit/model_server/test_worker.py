"""What handlers see of a request, and what becomes of their result."""

from emulator.model_server.worker import Context, Headers


def test_headers_have_no_case_and_keep_their_names() -> None:
    headers = Headers({"content-type": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "a"})

    assert headers["Content-Type"] == headers.get("CONTENT-TYPE") == "text/csv"
    assert "x-amzn-sagemaker-custom-attributes" in headers
    assert headers.get("Accept", "none") == "none"
    assert list(headers) == ["content-type", "X-Amzn-SageMaker-Custom-Attributes"]


def test_context_keeps_the_properties_of_the_answer() -> None:
    context = Context("/opt/ml/model", gpu_id=0)
    context.set_response_content_type(0, "text/plain")
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "b")
    context.set_response_status(code=418, phrase="teapot")

    request = context.request_processor[0]
    assert request.get_response_header() == {
        "Content-Type": "text/plain",
        "X-Amzn-SageMaker-Custom-Attributes": "b",
    }
    assert context.get_response_status() == (418, "teapot")
    assert context.system_properties["gpu_id"] == 0
