#!/bin/sh
# SeaweedFS with S3's API, and in it the bucket of the archive, which is made as soon as somebody answers.
(
    until echo "s3.bucket.list" | weed shell 2>/dev/null | grep -q hookstream; do
        echo "s3.bucket.create -name hookstream" | weed shell >/dev/null 2>&1
        sleep 1
    done
) &
exec weed server -s3 -dir=/data
