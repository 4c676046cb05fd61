package kubescale

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/damask-sdn/damask/internal/bus"
)

// count is how many objects of a kind are made, one after the other.
const count = 100

// Kinds of objects.
var (
	namespaces    = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	nodes         = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	pods          = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	services      = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	slicesKind    = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	policies      = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}
	netNamespaces = schema.GroupVersionResource{Group: "network.openshift.io", Version: "v1", Resource: "netnamespaces"}
	hostSubnets   = schema.GroupVersionResource{Group: "network.openshift.io", Version: "v1", Resource: "hostsubnets"}
)

// stored tells of the keys of a kind that a service stores: the last name of each.
func (s *system) stored(service, kind string) <-chan event {
	s.Helper()
	events, nc := make(chan event, 10*count), s.bus(service)
	_, err := nc.Subscribe(bus.Prefix(service)+"."+kind+".>", func(m *nats.Msg) {
		events <- event{m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], time.Now()}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		s.Fatal(err)
	}
	return events
}

// measured makes objects one after the other, and reports how long it takes until a service
// has done its part, beside a bare watch of the same objects; and what it asked and was sent
// for each.
func (s *system) measured(service, what string, api dynamic.Interface, kind schema.GroupVersionResource, done <-chan event, make func(name string) *unstructured.Unstructured) {
	s.Helper()
	gate := s.cluster.NewGate(s.B)
	seen := s.watched(s.through(gate), watch.Added, kind)
	create := func(name string) (ours, bare time.Duration) {
		object := make(name)
		began := time.Now()
		if _, err := api.Resource(kind).Namespace(object.GetNamespace()).Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		return s.heard(done, name).Sub(began), s.heard(seen, name).Sub(began)
	}
	create("first-" + what)
	requests, received, watched := s.requests(), s.service[service].gate.Received(), gate.Received()
	var ours, bare []time.Duration
	for i := range count {
		o, b := create(fmt.Sprintf("%s-%d", what, i))
		ours, bare = append(ours, o), append(bare, b)
	}
	asked := -count // by us
	for what, n := range s.requests() {
		if n > requests[what] {
			s.Logf("%d x %s", n-requests[what], what)
		}
		asked += n - requests[what]
	}
	s.ReportMetric(float64(asked)/count, what+"-calls")
	s.ReportMetric(1, what+"-own-call")
	s.ReportMetric(float64(s.service[service].gate.Received()-received)/count, what+"-bytes")
	s.ReportMetric(float64(gate.Received()-watched)/count, what+"-watch-bytes")
	s.ReportMetric(ms(ours, 50), what+"-ms")
	s.ReportMetric(ms(bare, 50), what+"-watch-ms")
	s.ReportMetric(ms(ours, 99), what+"-p99-ms")
}

// ms answers a percentile.
func ms(all []time.Duration, percentile int) float64 {
	slices.Sort(all)
	return all[len(all)*percentile/100].Seconds() * 1000
}

// requests answers how often the API server was asked for what so far. Watches are none for
// each object; leases, and the addresses of Services, are its own.
func (s *system) requests() map[string]int {
	s.Helper()
	asked := map[string]int{}
	for line := range strings.Lines(s.cluster.Kubectl(s.B, "get", "--raw", "/metrics")) {
		labels, number, _ := strings.Cut(strings.TrimSpace(line), "} ")
		what := label(labels, "verb") + " " + label(labels, "resource") + label(labels, "subresource")
		if !strings.HasPrefix(labels, "apiserver_request_total{") || label(labels, "resource") == "" || strings.HasPrefix(what, "WATCH ") ||
			strings.HasSuffix(what, " leases") || strings.HasSuffix(what, " ipaddresses") {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			s.Fatal(err)
		}
		asked[what] += int(n)
	}
	return asked
}

// label answers a label's value.
func label(labels, name string) string {
	_, rest, _ := strings.Cut(strings.ReplaceAll(labels, "{", ","), ","+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// object is an object in YAML's terms.
func object(apiVersion, kind, namespace, name string, fields map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: fields}
	if u.Object == nil {
		u.Object = map[string]any{}
	}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

func (s *system) latencies(api dynamic.Interface) {
	s.Helper()
	s.measured("tenancy", "namespace", api, namespaces, s.watched(api, watch.Added, netNamespaces), func(name string) *unstructured.Unstructured {
		return object("v1", "Namespace", "", name, nil)
	})
	s.measured("servicelb", "service", api, services, s.stored("servicelb", "service"), func(name string) *unstructured.Unstructured {
		return object("v1", "Service", "default", name, map[string]any{"spec": map[string]any{
			"selector": map[string]any{"app": name}, "ports": []any{map[string]any{"port": int64(80), "targetPort": int64(8080)}},
		}})
	})
	s.measured("tenancy", "policy", api, policies, s.stored("tenancy", "networkpolicy"), func(name string) *unstructured.Unstructured {
		return object("networking.k8s.io/v1", "NetworkPolicy", "default", name, map[string]any{"spec": map[string]any{
			"podSelector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"ingress":     []any{map[string]any{"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "client"}}}}}},
		}})
	})
}
