package bucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// duplicateWindow is how long the server remembers commit ids. It only has
	// to be longer than a commit can be in doubt: a lost answer, or a server's
	// restart. Each id costs the server about 100 bytes for that long.
	duplicateWindow = 30 * time.Second
	// tombstoneLife is how long the store keeps the mark of a deleted key. A
	// view that was cut off for more than half of it is rebuilt from nothing.
	tombstoneLife = time.Hour
)

// Config names a bucket.
type Config struct {
	// Name of the bucket: letters, digits, underscore and minus, as
	// "damask_ipam". Required.
	Name string
	// Subject under which commits appear on the bus: the key is appended, so
	// "damask.ipam.v1" gives damask.ipam.v1.hostsubnet.node1. Required.
	Subject string
	// Replicas of the stream, 1 to 5; 0 means 1. More than one needs a cluster
	// of at least so many NATS servers.
	Replicas int
	// Observe, if not nil, is told of every change.
	Observe Observer
}

// Bucket is a replica's hold on the store. Its methods may be called by many
// goroutines at once.
type Bucket struct {
	cfg    Config
	js     jetstream.JetStream
	nc     *nats.Conn
	log    hclog.Logger
	stream string

	view  *view
	ready chan struct{}
	// tombstoneLife is the constant of this name; tests are less patient.
	tombstoneLife time.Duration
	groups        groups
	committed     chan struct{} // wakes the head notes
	losses        losses
	stats         counters
}

type counters struct{ commits, conflicts, resends, rebuilds atomic.Uint64 }

// Stats are counts since the start of the process.
type Stats struct {
	// Commits that were applied; one may be of several transactions.
	Commits uint64
	// Conflicts: attempts that somebody else's commit made void.
	Conflicts uint64
	// Resends: commits sent again because their answer was lost.
	Resends uint64
	// Rebuilds: views read from the store's beginning, the first included.
	Rebuilds uint64
}

// Open creates the stream, or brings an existing one to the configuration. The
// view stays empty until Run.
func Open(ctx context.Context, js jetstream.JetStream, nc *nats.Conn, cfg Config, log hclog.Logger) (*Bucket, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", cfg.Name, err)
	}
	b := &Bucket{
		cfg: cfg, js: js, nc: nc, log: log.Named("bucket"), stream: "KV_" + cfg.Name,
		view: newView(cfg.Observe), ready: make(chan struct{}), tombstoneLife: tombstoneLife,
		groups: groups{wake: make(chan struct{}, 1)}, committed: make(chan struct{}, 1),
	}
	if err := b.ensureStream(ctx); err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", cfg.Name, err)
	}
	return b, nil
}

func (c *Config) check() error {
	var problems []error
	if c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		problems = append(problems, fmt.Errorf("name %q is not letters, digits, underscore and minus", c.Name))
	}
	if c.Subject == "" || strings.ContainsAny(c.Subject, "*> ") {
		problems = append(problems, fmt.Errorf("subject %q is empty or has wildcards", c.Subject))
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		problems = append(problems, fmt.Errorf("replicas %d is not within 0 to 5", c.Replicas))
	}
	return errors.Join(problems...)
}

// ensureStream keeps the layout of a NATS key-value bucket. Direct reads are
// off: they may be answered by a replica that lags, and a commit in doubt is
// settled by what the leader says.
func (b *Bucket) ensureStream(ctx context.Context) error {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:               b.stream,
		Description:        "Damask: state of " + b.cfg.Subject,
		Subjects:           []string{b.subject(">")},
		MaxMsgsPerSubject:  1,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgSize:         -1,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardNew,
		Replicas:           max(b.cfg.Replicas, 1),
		Duplicates:         duplicateWindow,
		DenyDelete:         true,
		AllowRollup:        true,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
		RePublish:          &jetstream.RePublish{Source: b.subject(">"), Destination: b.cfg.Subject + ".>"},
	})
	if err != nil {
		return fmt.Errorf("create or update stream %s: %w", b.stream, err)
	}
	return nil
}

func (b *Bucket) subject(key string) string { return "$KV." + b.cfg.Name + "." + key }

// Run feeds the view, commits, and publishes head notes until ctx ends. It
// outlives lost connections and restarts of the server. Updates need it.
func (b *Bucket) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { b.feed(ctx) })
	all.Go(func() { b.publishHeads(ctx) })
	all.Go(func() { b.commitGroups(ctx) })
	all.Go(func() { b.losses.watch(ctx, b.nc) })
	all.Wait()
	return nil
}

// Ready returns when the view has caught up with the store for the first time.
func (b *Bucket) Ready(ctx context.Context) error {
	select {
	case <-b.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the view of bucket %s: %w", b.cfg.Name, context.Cause(ctx))
	}
}

// Snapshot answers the view as it is now.
func (b *Bucket) Snapshot() Snapshot { return b.view.snapshot() }

// Get answers the entry of a key, if the key exists, from the view.
func (b *Bucket) Get(key string) (Entry, bool) { return b.view.snapshot().Get(key) }

// List answers the entries whose keys begin with prefix, in order of key, and
// the sequence that they reflect.
func (b *Bucket) List(prefix string) ([]Entry, uint64) {
	s := b.view.snapshot()
	return s.List(prefix), s.sequence
}

// Scan answers the entries whose keys begin with prefix and are greater than
// after, in order of key, from the view as it is when the scan starts.
func (b *Bucket) Scan(prefix, after string) iter.Seq[Entry] {
	return b.view.snapshot().Scan(prefix, after)
}

// Wait returns when the view reflects the sequence.
func (b *Bucket) Wait(ctx context.Context, sequence uint64) error {
	if err := b.view.wait(ctx, sequence); err != nil {
		return fmt.Errorf("wait for sequence %d of bucket %s: %w", sequence, b.cfg.Name, err)
	}
	return nil
}

// Stats answers the counts since the start of the process.
func (b *Bucket) Stats() Stats {
	return Stats{
		Commits:   b.stats.commits.Load(),
		Conflicts: b.stats.conflicts.Load(),
		Resends:   b.stats.resends.Load(),
		Rebuilds:  b.stats.rebuilds.Load(),
	}
}
