package kube

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nuid"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/lease"
)

// leaseKey is the key of a service's bucket under which its replicas choose the one that
// brings objects and store together.
const leaseKey = "kube.lease"

// Adapter is a replica's way to the API server, and its part in bringing objects and the
// service's store together. Reading is by the cache, which every replica has; writing goes
// straight to the API server.
type Adapter struct {
	cfg      Config
	cache    cache.Cache
	client   client.Client
	direct   client.Reader
	events   *events
	presence *presence
	lease    *lease.Lease
	bucket   *bucket.Bucket
	log      hclog.Logger
	logr     logr.Logger

	observed atomic.Uint64 // the sequence up to which changes were told

	mu   sync.Mutex
	anew context.CancelFunc // has whoever leads compare everything again; nil: nobody does
}

// New returns the adapter of a service, by its name in identities. More adds kinds beside
// Kubernetes' own and network.openshift.io/v1. It does not speak to the API server yet.
func New(cfg Config, service string, log hclog.Logger, more ...func(*runtime.Scheme) error) (*Adapter, error) {
	return newAdapter(cfg, service, trims(), log, more...)
}

// newAdapter is New with what is kept of which objects.
func newAdapter(cfg Config, service string, keep map[client.Object]cache.ByObject, log hclog.Logger, more ...func(*runtime.Scheme) error) (*Adapter, error) {
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
	a := &Adapter{cfg: cfg, lease: lease.New(leaseKey, nuid.Next()), log: log.Named("kube")}
	a.logr = useLogger(a.log)
	web, err := rest.HTTPClientFor(restCfg)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	web.Transport = candid{web.Transport}
	if a.events, err = newEvents(restCfg, web, scheme, service); err != nil {
		return nil, err
	}
	if a.presence, err = newPresence(restCfg, web, a.log); err != nil {
		return nil, err
	}
	return a, a.connect(restCfg, web, scheme, keep)
}

func (a *Adapter) connect(cfg *rest.Config, web *http.Client, scheme *runtime.Scheme, keep map[client.Object]cache.ByObject) error {
	mapper, err := newMapper(cfg, web)
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	a.cache, err = cache.New(cfg, cache.Options{
		HTTPClient: web, Scheme: scheme, Mapper: mapper, ByObject: keep, DefaultTransform: cache.TransformStripManagedFields(),
		NewInformer: func(of toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(a.presence.patient(of), kind, resync, indexers)
		},
	})
	if err != nil {
		return fmt.Errorf("cache objects of Kubernetes: %w", err)
	}
	direct, err := client.New(cfg, client.Options{HTTPClient: web, Scheme: scheme, Mapper: mapper})
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	a.direct = direct
	a.client, err = client.New(cfg, client.Options{HTTPClient: web, Scheme: scheme, Mapper: mapper, Cache: &client.CacheOptions{Reader: a.cache, Unstructured: true}})
	if err != nil {
		return fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	return nil
}

// Client reads from the cache, trimmed, and writes to the API server.
func (a *Adapter) Client() client.Client { return a.client }

// Direct reads from the API server itself, whole.
func (a *Adapter) Direct() client.Reader { return a.direct }

// Event tells people that something became of an object: how is corev1.EventTypeNormal or
// corev1.EventTypeWarning, reason in UpperCamelCase. A message that is too long is cut. It
// never waits.
func (a *Adapter) Event(object client.Object, how, reason, message string) {
	if len(message) > maxNote {
		message = strings.ToValidUTF8(message[:maxNote-4], "") + " ..."
	}
	a.events.Event(object, how, reason, message)
}
