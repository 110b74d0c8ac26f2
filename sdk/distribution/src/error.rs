//! Refusals in the form that clients read (distribution-spec, "Error Codes").

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
};
use serde_json::json;

use crate::StorageError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Not in the specification, but in every registry: the registry's own trouble.
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Why a request is not answered as it was meant.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    code: Code,
    message: String,
    /// The content that it is about.
    digest: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), digest: None, headers: Vec::new() }
    }

    pub fn bad(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 401: any user name will do, the password is a token.
    pub fn unauthorized() -> Self {
        let why = "log in with any user name and a token as the password";
        let challenge = HeaderValue::from_static("Basic realm=\"windlass\", charset=\"UTF-8\"");
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, why)
            .with(WWW_AUTHENTICATE, challenge)
    }

    pub fn method(allowed: &'static str) -> Self {
        let why = format!("this path takes {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, why)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The registry's own trouble.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, why.to_string())
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn about(self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self }
    }

    pub fn is_failure(&self) -> bool {
        self.status.is_server_error()
    }
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::Missing(digest) => {
                Self::not_found(Code::ManifestBlobUnknown, message).about(&digest)
            }
            StorageError::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, Code::Unknown, message)
            }
            StorageError::Io { .. } => Self::failed(message),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code.as_str(), "message": self.message});
        if let Some(digest) = self.digest {
            error["detail"] = json!({"digest": digest});
        }
        let mut response = (self.status, axum::Json(json!({"errors": [error]}))).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
