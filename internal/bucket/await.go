package bucket

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// openTime bounds one attempt to open the bucket, and openPause is what
	// lies between two.
	openTime  = 5 * time.Second
	openPause = 500 * time.Millisecond
)

// Await is Open for a service that starts: it waits for a store that is away, and
// says so once. It answers nil without an error when ctx ends first.
func Await(ctx context.Context, nc *nats.Conn, cfg Config, log hclog.Logger) (*Bucket, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, openTime)
		b, err := Open(attempt, js, nc, cfg, log)
		cancel()
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, nil
		case !warned:
			log.Warn("the store is not ready, trying again", "error", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(openPause):
		}
	}
}
