//! The operations of S3 that this server has, each from the protocol to the files and back. What a
//! request asks for beyond them is refused by name, never ignored.

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, Error as Refusal, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::failure::{self, Context};
use super::folder::{Condition, Folder};
use super::listing::{self, After, Query};
use super::transfer::{Outgoing, Promise, blocking, receive};
use super::uploads;
use super::wire::{
    self, DEFAULT_CONTENT_TYPE, PAGE, attributes, conditions, only_current_whole, page_size,
    refuse_unsupported, satisfiable,
};

#[derive(Debug, Clone)]
pub(super) struct Api(pub(super) Arc<Folder>);

impl Api {
    /// Runs file operations where they may block.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> S3Result<T> + Send + 'static,
    ) -> S3Result<S3Response<T>> {
        let folder = Arc::clone(&self.0);
        blocking(move || work(&folder)).await.map(S3Response::new)
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        self.on(
            move |folder| match std::fs::create_dir(folder.dir().join(&bucket)) {
                Ok(()) => Ok(CreateBucketOutput {
                    location: Some(format!("/{bucket}")),
                }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    Err(s3_error!(BucketAlreadyOwnedByYou, "the folder `{bucket}` exists"))
                }
                Err(error) => Err(failure::io("create the bucket's folder", error)),
            },
        )
        .await
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.on(move |folder| {
            folder
                .bucket(&request.input.bucket)
                .map(|_| HeadBucketOutput::default())
        })
        .await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.on(move |folder| {
            folder
                .bucket(&request.input.bucket)
                .map(|_| GetBucketLocationOutput::default())
        })
        .await
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.on(|folder| {
            let buckets = Some(wire::buckets(folder.dir()).doing("list the buckets")?);
            Ok(ListBucketsOutput {
                buckets,
                ..Default::default()
            })
        })
        .await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let mut input = request.input;
        only_current_whole(input.version_id.as_deref(), input.part_number)?;
        self.on(move |folder| {
            let (file, version) = folder.object(&input.bucket, &input.key)?;
            conditions!(input).check(&version)?;
            let range = match input.range {
                Some(range) => satisfiable(range, version.size)?,
                None => 0..version.size,
            };
            let content_range = input
                .range
                .map(|_| format!("bytes {}-{}/{}", range.start, range.end - 1, version.size));
            let length = range.end - range.start;
            let body = Outgoing::open(file, range)?.into_body();
            let modified = version.last_modified();
            let attributes = version.attributes;
            Ok(GetObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                body: Some(body),
                cache_control: attributes.cache_control,
                content_disposition: attributes.content_disposition,
                content_encoding: attributes.content_encoding,
                content_language: attributes.content_language,
                content_length: Some(length.cast_signed()),
                content_range,
                content_type: attributes
                    .content_type
                    .or_else(|| Some(DEFAULT_CONTENT_TYPE.to_owned())),
                e_tag: Some(ETag::Strong(version.etag)),
                last_modified: Some(modified),
                metadata: Some(attributes.user),
                ..Default::default()
            })
        })
        .await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let mut input = request.input;
        only_current_whole(input.version_id.as_deref(), input.part_number)?;
        self.on(move |folder| {
            let version = folder
                .current(&input.bucket, &input.key)?
                .ok_or_else(|| s3_error!(NoSuchKey))?;
            conditions!(input).check(&version)?;
            let modified = version.last_modified();
            let attributes = version.attributes;
            Ok(HeadObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                cache_control: attributes.cache_control,
                content_disposition: attributes.content_disposition,
                content_encoding: attributes.content_encoding,
                content_language: attributes.content_language,
                content_length: Some(version.size.cast_signed()),
                content_type: attributes
                    .content_type
                    .or_else(|| Some(DEFAULT_CONTENT_TYPE.to_owned())),
                e_tag: Some(ETag::Strong(version.etag)),
                last_modified: Some(modified),
                metadata: Some(attributes.user),
                ..Default::default()
            })
        })
        .await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.on(move |folder| {
            let bucket = folder.bucket(&input.bucket)?;
            let after = match (&input.continuation_token, &input.start_after) {
                (Some(token), _) => After::from_token(token).ok_or_else(|| {
                    s3_error!(
                        InvalidArgument,
                        "the continuation token is not one of this server"
                    )
                })?,
                (None, start) => After::Key(start.clone().unwrap_or_default()),
            };
            let limit = page_size(input.max_keys)?;
            let query = Query {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input
                    .delimiter
                    .as_deref()
                    .filter(|delimiter| !delimiter.is_empty()),
                after,
                limit,
            };
            let page = listing::page(&folder.names, &bucket, query).doing("list the bucket")?;
            Ok(wire::page_output(input, limit, page))
        })
        .await
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let promise = Promise::of(&mut request);
        let refused = refuse_unsupported(promise.headers());
        let mut input = request.input;
        let body = input.body.take();
        let folder = Arc::clone(&self.0);
        receive(&self.0, body, promise, move |received| {
            refused?;
            let condition = Condition::new(input.if_match.take(), input.if_none_match.take())?;
            let attributes = attributes!(input);
            received.file.seal(&received.md5, &attributes)?;
            folder.publish(
                &folder.change(),
                &input.bucket,
                &input.key,
                received.file,
                &condition,
            )?;
            Ok(PutObjectOutput {
                e_tag: Some(ETag::Strong(received.md5)),
                ..Default::default()
            })
        })
        .await
        .map(S3Response::new)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        only_current_whole(input.version_id.as_deref(), None)?;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "of the conditions on a deletion there is If-Match only"
            ));
        }
        self.on(move |folder| {
            let condition = Condition::new(input.if_match, None)?;
            folder.delete(&input.bucket, &input.key, &condition)?;
            Ok(DeleteObjectOutput::default())
        })
        .await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.len() > PAGE {
            return Err(s3_error!(
                MalformedXML,
                "one request deletes at most {PAGE} objects"
            ));
        }
        self.on(move |folder| {
            folder.bucket(&bucket)?;
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in delete.objects {
                let key = Some(object.key.clone());
                let result = only_current_whole(object.version_id.as_deref(), None)
                    .and_then(|()| folder.delete(&bucket, &object.key, &Condition::etag(object.e_tag)));
                match result {
                    Ok(()) => deleted.push(DeletedObject {
                        key,
                        ..Default::default()
                    }),
                    Err(error) => errors.push(Refusal {
                        key,
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        version_id: None,
                    }),
                }
            }
            let deleted = Some(deleted).filter(|_| !delete.quiet.unwrap_or(false));
            Ok(DeleteObjectsOutput {
                deleted,
                errors: Some(errors),
                request_charged: None,
            })
        })
        .await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        refuse_unsupported(&request.headers)?;
        let mut input = request.input;
        self.on(move |folder| {
            let attributes = attributes!(input);
            let id = uploads::create(folder, input.bucket.clone(), input.key.clone(), attributes)?;
            Ok(CreateMultipartUploadOutput {
                bucket: Some(input.bucket),
                key: Some(input.key),
                upload_id: Some(id),
                ..Default::default()
            })
        })
        .await
    }

    async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let promise = Promise::of(&mut request);
        let mut input = request.input;
        let body = input.body.take();
        let folder = Arc::clone(&self.0);
        receive(&self.0, body, promise, move |received| {
            let upload = uploads::find(&folder, &input.bucket, &input.key, &input.upload_id)?;
            let etag = upload.store_part(input.part_number, received)?;
            Ok(UploadPartOutput {
                e_tag: Some(ETag::Strong(etag)),
                ..Default::default()
            })
        })
        .await
        .map(S3Response::new)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        self.on(move |folder| {
            let upload = uploads::find(folder, &input.bucket, &input.key, &input.upload_id)?;
            let limit = page_size(input.max_parts)?;
            let (parts, more) = upload.parts(input.part_number_marker.unwrap_or(0), limit)?;
            Ok(ListPartsOutput {
                bucket: Some(input.bucket),
                key: Some(input.key),
                upload_id: Some(input.upload_id),
                max_parts: Some(limit as i32),
                part_number_marker: input.part_number_marker,
                next_part_number_marker: parts.last().map(|(number, _)| *number).filter(|_| more),
                is_truncated: Some(more),
                parts: Some(parts.into_iter().map(wire::part).collect()),
                ..Default::default()
            })
        })
        .await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "uploads are listed without delimiter"));
        }
        self.on(move |folder| {
            let limit = page_size(input.max_uploads)?;
            let mut uploads =
                uploads::list(folder, &input.bucket, input.prefix.as_deref().unwrap_or_default())?;
            let key = input.key_marker.as_deref().unwrap_or_default();
            match input.upload_id_marker.as_deref() {
                Some(id) => uploads.retain(|upload| (&*upload.key, &*upload.id) > (key, id)),
                None => uploads.retain(|upload| &*upload.key > key),
            }
            let more = uploads.len() > limit;
            uploads.truncate(limit);
            let encode = wire::encoder(input.encoding_type.as_ref());
            for upload in &mut uploads {
                upload.key = encode(std::mem::take(&mut upload.key));
            }
            let last = uploads.last().filter(|_| more);
            Ok(ListMultipartUploadsOutput {
                bucket: Some(input.bucket),
                prefix: input.prefix.map(encode),
                key_marker: input.key_marker.map(encode),
                encoding_type: input.encoding_type,
                upload_id_marker: input.upload_id_marker,
                max_uploads: Some(limit as i32),
                is_truncated: Some(more),
                next_key_marker: last.map(|upload| upload.key.clone()),
                next_upload_id_marker: last.map(|upload| upload.id.clone()),
                uploads: Some(uploads.into_iter().map(wire::upload).collect()),
                ..Default::default()
            })
        })
        .await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.on(move |folder| {
            let condition = Condition::new(input.if_match, input.if_none_match)?;
            let upload = uploads::find(folder, &input.bucket, &input.key, &input.upload_id)?;
            let parts = input
                .multipart_upload
                .and_then(|upload| upload.parts)
                .unwrap_or_default();
            let etag = uploads::complete(
                folder,
                &input.bucket,
                &upload,
                &parts,
                input.mpu_object_size,
                &condition,
            )?;
            Ok(CompleteMultipartUploadOutput {
                location: Some(format!("/{}/{}", input.bucket, input.key)),
                bucket: Some(input.bucket),
                key: Some(input.key),
                e_tag: Some(ETag::Strong(etag)),
                ..Default::default()
            })
        })
        .await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.on(move |folder| {
            uploads::find(folder, &input.bucket, &input.key, &input.upload_id)?.abort(folder)?;
            Ok(AbortMultipartUploadOutput::default())
        })
        .await
    }
}
