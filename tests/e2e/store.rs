//! A test's bucket as it is seen from outside of the cluster.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cluster;
use crate::site::text_of;

const AT_A_TIME: usize = 32;

pub struct Bucket {
    pub name: String,
    client: Client,
    runtime: Runtime,
}

impl Bucket {
    /// One that need not exist.
    pub fn named(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Connections are closed between two questions, and nobody notices before the next one.
        let client = cluster::store().client();
        let retries = client.config().to_builder().retry_config(RetryConfig::standard());
        let client = Client::from_conf(retries.build());
        Self {
            name: name.to_owned(),
            client,
            runtime,
        }
    }

    pub fn create(&self) {
        self.runtime
            .block_on(self.client.create_bucket().bucket(&self.name).send())
            .unwrap();
    }

    /// With all that is in it, if it is there.
    pub fn remove(&self) {
        let exists = self
            .runtime
            .block_on(self.client.head_bucket().bucket(&self.name).send());
        if exists.is_err() {
            return;
        }
        self.delete(self.keys(""));
        self.runtime
            .block_on(self.client.delete_bucket().bucket(&self.name).send())
            .unwrap();
    }

    pub fn put(&self, objects: &BTreeMap<String, Vec<u8>>) {
        let puts = objects.iter().map(|(key, bytes)| {
            let put = self.client.put_object().bucket(&self.name).key(key);
            put.body(bytes.clone().into()).send()
        });
        let puts = stream::iter(puts).buffer_unordered(AT_A_TIME);
        self.runtime
            .block_on(puts.try_for_each(async |_| Ok(())))
            .unwrap();
    }

    pub fn get(&self, keys: &[String]) -> BTreeMap<String, Vec<u8>> {
        let gets = keys.iter().map(async |key| {
            let answer = self
                .client
                .get_object()
                .bucket(&self.name)
                .key(key)
                .send()
                .await
                .unwrap();
            (key.clone(), answer.body.collect().await.unwrap().to_vec())
        });
        self.runtime
            .block_on(stream::iter(gets).buffer_unordered(AT_A_TIME).collect())
    }

    pub fn delete(&self, keys: Vec<String>) {
        let deletes = keys
            .into_iter()
            .map(|key| self.client.delete_object().bucket(&self.name).key(key).send());
        let deletes = stream::iter(deletes).buffer_unordered(AT_A_TIME);
        self.runtime
            .block_on(deletes.try_for_each(async |_| Ok(())))
            .unwrap();
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .into_paginator()
            .send();
        self.runtime.block_on(async {
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.unwrap();
                keys.extend(
                    page.contents()
                        .iter()
                        .map(|object| object.key().unwrap().to_owned()),
                );
            }
            keys
        })
    }

    /// Key and id of each upload that the ledgers here name.
    pub fn recorded_uploads(&self) -> Vec<(String, String)> {
        let mut records = self.keys("_compaction/");
        records.retain(|key| key.contains("/uploads/") && key.ends_with(".opened.json"));
        let records = self.get(&records).into_values();
        records
            .map(|bytes| {
                let record: Value = serde_json::from_slice(&bytes).unwrap();
                (text_of(&record["key"]), text_of(&record["id"]))
            })
            .collect()
    }

    /// Whether the store still keeps its parts. `MinIO` does not list uploads of other keys than asked for.
    pub fn is_open(&self, (key, id): &(String, String)) -> bool {
        let parts = self.client.list_parts().bucket(&self.name).key(key).upload_id(id);
        match self.runtime.block_on(parts.send()) {
            Ok(_) => true,
            Err(error) => {
                let error = error.into_service_error();
                assert_eq!(error.code(), Some("NoSuchUpload"), "{error:?}");
                false
            }
        }
    }
}
