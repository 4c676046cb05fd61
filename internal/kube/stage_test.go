package kube_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/logtest"
	"github.com/damask-sdn/damask/internal/natsd"
)

// service is in whose name the tests keep a store.
const service = "servicelb"

// limit bounds every wait: it matters only when something hangs.
const limit = 90 * time.Second

// stage is a cluster and a store.
type stage struct {
	*testing.T
	*kubetest.Cluster
	ca    *identitytest.CA
	store *natsd.Server
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, Cluster: kubetest.Start(t), ca: identitytest.New(t)}
	var err error
	s.store, err = natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncPeriodic},
		s.ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.store.Stop)
	return s
}

// replica is one of a service that keeps in its store what the ConfigMaps of "default" say.
type replica struct {
	*testing.T
	api    *kube.Adapter
	bucket *bucket.Bucket
	nc     *nats.Conn
	feed   *kube.Feed
	log    *logtest.Lines
	stop   func()

	mu       sync.Mutex
	adopted  int            // how often that was tried
	compared int            // how often anything was
	failed   map[string]int // by name, how often that ended with an error
}

// replica starts one. It reaches the API server as cfg says.
func (s *stage) replica(cfg kube.Config) *replica {
	s.Helper()
	r := &replica{T: s.T, log: &logtest.Lines{}, failed: map[string]int{}}
	log := hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Info})
	cfg.Enabled = true
	var err error
	if r.api, err = kube.New(cfg, service, log); err != nil {
		s.Fatal(err)
	}
	r.feed = kube.NewFeed(r.names)
	if r.nc, err = natsd.Connect([]string{s.store.URL()}, s.ca.Source(s.T, identitytest.Service(s.T, service)), hclog.NewNullLogger()); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.bucket, err = bucket.Await(ctx, r.nc, bucket.Config{
		Name: natsd.BucketName(service), Subject: bus.Prefix(service), Observe: r.observe,
	}, hclog.NewNullLogger()); err != nil {
		s.Fatal(err)
	}
	r.api.Use(r.bucket)
	storing, end := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = r.bucket.Run(storing) })
	all.Go(func() {
		defer end()
		if err := r.api.Run(ctx, kube.Work{Adopt: r.adopt, Controllers: []kube.Controller{
			{Name: "configmap", Kinds: []client.Object{&corev1.ConfigMap{}}, Stored: r.feed, Reconcile: r.reconcile, Workers: 2},
		}}); err != nil {
			s.Errorf("it ended with %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		r.nc.Close()
	})
	s.Cleanup(r.stop)
	return r
}

const prefix = "copy."

func (r *replica) observe(changes []bucket.Change, reset bool) {
	r.api.Observe(changes, reset)
	for _, c := range changes {
		if name, ok := strings.CutPrefix(c.Key, prefix); ok {
			r.feed.Changed(types.NamespacedName{Namespace: "default", Name: name})
		}
	}
}

func (r *replica) names() (names []types.NamespacedName) {
	for e := range r.bucket.Scan(prefix, "") {
		names = append(names, types.NamespacedName{Namespace: "default", Name: strings.TrimPrefix(e.Key, prefix)})
	}
	return names
}

// adopt fails the first time.
func (r *replica) adopt(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compared > 0 {
		r.Error("something was compared before all was adopted")
	}
	if r.adopted++; r.adopted == 1 {
		return errors.New("the first time it fails")
	}
	return nil
}

func (r *replica) reconcile(ctx context.Context, name types.NamespacedName) error {
	if name.Namespace != "default" {
		return nil
	}
	err := r.compare(ctx, name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compared++; err != nil {
		r.failed[name.Name]++
	}
	return err
}

func (r *replica) compare(ctx context.Context, name types.NamespacedName) error {
	stored, exists := r.bucket.Get(prefix + name.Name)
	object := &corev1.ConfigMap{}
	err := r.api.Client().Get(ctx, name, object)
	switch {
	case apierrors.IsNotFound(err) && !exists:
		return nil
	case apierrors.IsNotFound(err):
		if err := r.api.Gone(ctx, object, name); err != nil {
			return err
		}
		return r.write(ctx, name.Name, "")
	case err != nil || string(stored.Value) == object.Data["text"]:
		return err
	}
	return r.write(ctx, name.Name, object.Data["text"])
}

// write makes the store have a text under a name; "": none.
func (r *replica) write(ctx context.Context, name, text string) error {
	_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if text == "" {
			tx.Delete(prefix + name)
		} else {
			tx.Put(prefix+name, []byte(text))
		}
		return nil
	})
	return err
}

// count answers how often anything was compared, and how often in vain under a name.
func (r *replica) count(name string) (compared, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.compared, r.failed[name]
}

// has waits until the replica knows that the store has a text under a name.
func (r *replica) has(name, text string) {
	r.Helper()
	r.until(fmt.Sprintf("the store has %q as %s", text, name), func() bool {
		e, _ := r.bucket.Get(prefix + name)
		return string(e.Value) == text
	})
}

func (r *replica) until(what string, holds func() bool) {
	r.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("not so: %s; it logged:\n%s", what, r.log)
		}
	}
}

// configMap makes an object, or changes it.
func (s *stage) configMap(name, text string) {
	s.Helper()
	s.Apply(s.T, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: default}, data: {text: %s}}", name, text))
}
