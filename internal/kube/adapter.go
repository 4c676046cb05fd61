package kube

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
)

// forEver is how long a cache may take until it is complete: an API server that is away
// is waited for.
const forEver = 10 * 365 * 24 * time.Hour

// How long after an error an object is reconciled again, at first and at most: an API server
// that was away for an hour must not be waited for as long again.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Adapter is a service's way to the API server. Reading is by the cache, which every replica
// has; writing goes straight there.
type Adapter struct {
	cfg    Config
	cache  cache.Cache
	client client.Client
	direct client.Reader
	events *events
	log    hclog.Logger
	logr   logr.Logger
}

// New returns the adapter of a service, by its name in identities. More adds kinds beside
// Kubernetes' own and network.openshift.io/v1. It does not speak to the API server yet.
func New(cfg Config, service string, log hclog.Logger, more ...func(*runtime.Scheme) error) (*Adapter, error) {
	restCfg, err := cfg.rest(service)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range append([]func(*runtime.Scheme) error{clientgoscheme.AddToScheme, networkv1.AddToScheme}, more...) {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("kinds of Kubernetes: %w", err)
		}
	}
	a := &Adapter{cfg: cfg, log: log.Named("kube")}
	a.logr = useLogger(a.log)
	web, err := rest.HTTPClientFor(restCfg)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	if a.events, err = newEvents(restCfg, web, scheme, service); err != nil {
		return nil, err
	}
	return a, a.connect(restCfg, web, scheme)
}

func (a *Adapter) connect(cfg *rest.Config, web *http.Client, scheme *runtime.Scheme) error {
	mapper, err := newMapper(cfg, web)
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	a.cache, err = cache.New(cfg, cache.Options{
		HTTPClient: web, Scheme: scheme, Mapper: mapper, ByObject: trims(), DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return fmt.Errorf("cache objects of Kubernetes: %w", err)
	}
	direct, err := client.New(cfg, client.Options{HTTPClient: web, Scheme: scheme, Mapper: mapper})
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	a.direct = direct
	a.client, err = client.New(cfg, client.Options{HTTPClient: web, Scheme: scheme, Mapper: mapper, Cache: &client.CacheOptions{Reader: a.cache}})
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	return nil
}

// Client reads from the cache, trimmed, and writes to the API server.
func (a *Adapter) Client() client.Client { return a.client }

// Direct reads from the API server itself, whole.
func (a *Adapter) Direct() client.Reader { return a.direct }

// Cache is what every replica knows of the cluster.
func (a *Adapter) Cache() cache.Cache { return a.cache }

// Event tells people that something became of an object: how is corev1.EventTypeNormal or
// corev1.EventTypeWarning, reason in UpperCamelCase. It never waits.
func (a *Adapter) Event(object client.Object, how, reason, message string) {
	a.events.Event(object, how, reason, message)
}

// Run keeps the cache, and sends events, until ctx ends. What is in the cache is decided by
// who asks for it.
func (a *Adapter) Run(ctx context.Context) error {
	go a.events.run(ctx)
	if err := a.cache.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cache objects of Kubernetes: %w", err)
	}
	return nil
}

// Controller compares one object after the other with the store.
type Controller struct {
	// Name of what is reconciled, for logs. Required.
	Name string
	// Sources say of which objects something may be different. Required.
	Sources []source.Source
	// Reconcile makes one object and the store agree. It is called with the same name by
	// one goroutine at a time, and again, later and later, after an error.
	Reconcile reconcile.Func
	// Workers is how many are reconciled at once; 0: one.
	Workers int
}

// Of is the source of objects of a kind, each for itself.
func (a *Adapter) Of(kind client.Object) source.Source {
	return source.Kind(a.cache, kind, &handler.EnqueueRequestForObject{})
}

// For is the source of objects of a kind that matter to those that names answers.
func (a *Adapter) For(kind client.Object, names handler.MapFunc) source.Source {
	return source.Kind(a.cache, kind, handler.EnqueueRequestsFromMapFunc(names))
}

// Lead runs controllers until ctx ends. The caller has the lease. It waits for the API
// server, and refuses to bring the store to another cluster than its own.
func (a *Adapter) Lead(ctx context.Context, b *bucket.Bucket, controllers ...Controller) error {
	if _, err := a.bind(ctx, b); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range controllers {
		group.Go(func() error { return a.control(ctx, c) })
	}
	return group.Wait()
}

func (a *Adapter) control(ctx context.Context, c Controller) error {
	again := true
	run, err := controller.NewUnmanaged(c.Name, controller.Options{
		Reconciler: c.Reconcile, MaxConcurrentReconciles: max(1, c.Workers), Logger: a.logr, CacheSyncTimeout: forEver,
		SkipNameValidation: &again, // Whoever leads again begins anew.
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryMost),
	})
	if err != nil {
		return fmt.Errorf("reconcile %s: %w", c.Name, err)
	}
	for _, s := range c.Sources {
		if err := run.Watch(s); err != nil {
			return fmt.Errorf("reconcile %s: %w", c.Name, err)
		}
	}
	if err := run.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("reconcile %s: %w", c.Name, err)
	}
	return nil
}
