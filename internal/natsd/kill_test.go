package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
)

// configEnv makes this test binary be damask-nats.
const configEnv = "DAMASK_TEST_NATS_CONFIG"

func TestMain(m *testing.M) {
	path := os.Getenv(configEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	cfg, err := natsd.Load(path)
	if err == nil {
		err = natsd.Run(context.Background(), cfg, hclog.NewNullLogger())
	}
	_, _ = fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// startProcess starts damask-nats as a process that can be killed.
func startProcess(t testing.TB, config string) *proctest.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), configEnv+"="+config)
	cmd.Stderr = os.Stderr
	return proctest.Start(t, cmd)
}

// Two replicas allocate while the server is killed again and again. Whatever
// was acknowledged is still there, nothing was given twice, and no batch was
// torn: each number has its owner and each owner its number.
func TestKilledServerLosesNoAcknowledgedCommit(t *testing.T) {
	const kills = 4
	ca := identitytest.New(t)
	dir, listen := t.TempDir(), free(t)
	files := ca.Files(t, identitytest.Service(t, "nats"))
	config := filepath.Join(dir, "nats.yaml")
	content := fmt.Sprintf("storeDir: %s/store\nsync: periodic\nlisten: %s\ntls: {certificate: %s, key: %s, ca: %s}\n",
		dir, listen, files.Certificate, files.Key, files.CA)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	process := startProcess(t, config)

	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	progress := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var buckets []*bucket.Bucket
	for r := range 2 {
		b, err := openBucket(t, connect(t, ca, identitytest.Service(t, "tenancy"), "tls://"+listen), "tenancy", 1)
		if err != nil {
			t.Fatal(err)
		}
		buckets = append(buckets, b)
		for g := range 4 {
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					owner := fmt.Sprintf("r%d-%d-%d", r, g, i)
					err := allocate(ctx, b, owner)
					if err != nil && ctx.Err() == nil && !errors.Is(err, bucket.ErrOutcomeUnknown) {
						t.Error(err)
					}
					if err != nil {
						continue
					}
					mu.Lock()
					acknowledged[owner] = true
					mu.Unlock()
					select {
					case progress <- struct{}{}:
					case <-ctx.Done():
					}
				}
			})
		}
	}
	for range kills {
		for range 40 {
			select {
			case <-progress:
			case <-soon(t).Done():
				t.Fatal("allocation stands still")
			}
		}
		process.Kill()
		process = startProcess(t, config)
	}
	for range 20 {
		<-progress
	}
	stop()
	all.Wait()
	last, err := buckets[0].Update(soon(t), func(tx *bucket.Tx) error { tx.Put("cursor.end", nil); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := buckets[1].Wait(soon(t), last); err != nil {
		t.Fatal(err)
	}
	verify(t, buckets[1], acknowledged)
}

func allocate(ctx context.Context, b *bucket.Bucket, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := b.Update(ctx, func(tx *bucket.Tx) error {
		number := fmt.Sprint(len(tx.List("vnid.")))
		tx.Put(bucket.Key("vnid", number), []byte(owner))
		tx.Put(bucket.Key("netnamespace", owner), []byte(number))
		return nil
	})
	return err
}

func verify(t *testing.T, b *bucket.Bucket, acknowledged map[string]bool) {
	t.Helper()
	numbers, _ := b.List("vnid.")
	owners, _ := b.List("netnamespace.")
	if len(numbers) != len(owners) {
		t.Errorf("got %d numbers of %d owners: a commit was torn or done twice", len(numbers), len(owners))
	}
	for _, o := range owners {
		e, exists := b.Get("vnid." + string(o.Value))
		if !exists || bucket.Key("netnamespace", string(e.Value)) != o.Key {
			t.Errorf("%s has number %s, which is of %q", o.Key, o.Value, e.Value)
		}
	}
	for owner := range acknowledged {
		if _, exists := b.Get(bucket.Key("netnamespace", owner)); !exists {
			t.Errorf("%s was acknowledged and is gone", owner)
		}
	}
	t.Logf("%d acknowledged, %d there", len(acknowledged), len(owners))
}
