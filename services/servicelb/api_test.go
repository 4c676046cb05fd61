package servicelb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const (
	local  = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
	anyway = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER
)

func TestAServiceGetsItsDefaultsAddressesAndPorts(t *testing.T) {
	op := start(t, small()).operator()
	got := op.create(t, web("web", balanced, func(s *servicelbv1.Service) {
		s.ExternalTrafficPolicy, s.SessionAffinity = local, servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP
		s.Ports = []*servicelbv1.ServicePort{
			{Name: "dns", Protocol: servicelbv1.Protocol_PROTOCOL_UDP, Port: 53}, {Name: "dns-tcp", Port: 53}, {Name: "web", Port: 80, TargetPort: "http"},
		}
	}))
	p := got.GetPorts()
	if p[0].GetNodePort() != p[1].GetNodePort() || p[0].GetNodePort() == p[2].GetNodePort() || p[2].GetNodePort() < 30000 {
		t.Errorf("node ports %d, %d, %d: the same for UDP and TCP, another for the third", p[0].GetNodePort(), p[1].GetNodePort(), p[2].GetNodePort())
	}
	if p[1].GetTargetPort() != "53" || p[1].GetProtocol() != servicelbv1.Protocol_PROTOCOL_TCP {
		t.Errorf("port %v", p[1])
	}
	if !strings.HasPrefix(got.GetClusterIps()[0], "172.30.0.") || !strings.HasPrefix(got.GetLoadBalancerIps()[0], "192.0.2.") {
		t.Errorf("addresses %v, %v", got.GetClusterIps(), got.GetLoadBalancerIps())
	}
	if h := got.GetHealthCheckNodePort(); h < 30000 || h == p[0].GetNodePort() || h == p[2].GetNodePort() {
		t.Errorf("health-check node port %d", h)
	}
	if got.GetInternalTrafficPolicy() != anyway || got.GetSessionAffinityTimeoutSeconds() != 10800 || !got.GetAllocateLoadBalancerNodePorts() || got.GetRevision() == 0 {
		t.Errorf("got %v", got)
	}
	if again, err := op.GetService(soon(t), &servicelbv1.GetServiceRequest{Namespace: "shop", Name: "web"}); err != nil || !proto.Equal(again.GetService(), got) {
		t.Errorf("get: %v, %v", again, err)
	}
}

func TestWishesAreHonouredOrRefused(t *testing.T) {
	op := start(t, small()).operator()
	wish := func(ip string, port uint32, balancer string) func(*servicelbv1.Service) {
		return func(s *servicelbv1.Service) {
			balanced(s)
			s.ClusterIps, s.Ports[0].NodePort, s.LoadBalancerIps = []string{ip}, port, []string{balancer}
		}
	}
	first := op.create(t, web("first", wish("172.30.0.14", 30007, "192.0.2.3")))
	if first.GetClusterIps()[0] != "172.30.0.14" || first.GetPorts()[0].GetNodePort() != 30007 || first.GetLoadBalancerIps()[0] != "192.0.2.3" {
		t.Errorf("got %v", first)
	}
	_, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("second", wish("172.30.0.14", 30007, "192.0.2.3"))})
	if status.Code(err) != codes.FailedPrecondition || rpcerr.Reason(err) != "TAKEN" || rpcerr.Metadata(err)["by"] != "shop/first" {
		t.Errorf("what is taken: %v", err)
	}
	for _, part := range []string{"service.cluster_ips[0]: 172.30.0.14", "service.ports[0].node_port: 30007", "service.load_balancer_ips[0]: 192.0.2.3", "shop/first"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %v", part, err)
		}
	}
	_, err = op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("third", wish("172.30.0.15", 29999, "192.0.2.4"))})
	if want := []string{"service.cluster_ips[0]", "service.ports[0].node_port", "service.load_balancer_ips[0]"}; !slices.Equal(fields(err), want) {
		t.Errorf("what is out of range: violations of %v, want %v: %v", fields(err), want, err)
	}
	op.remove(t, "first")
	op.create(t, web("second", wish("172.30.0.14", 30007, "192.0.2.3")))
}

func TestALoadBalancerOfOthersHasTheAddressesThatTheyGive(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	theirs := func(ips ...string) *servicelbv1.Service {
		return web("web", balanced, func(s *servicelbv1.Service) {
			s.ExternalTrafficPolicy, s.LoadBalancerByOthers, s.LoadBalancerIps = local, true, ips
		})
	}
	first := op.create(t, theirs())
	if len(first.GetLoadBalancerIps()) != 0 || first.GetHealthCheckNodePort() == 0 || first.GetPorts()[0].GetNodePort() == 0 {
		t.Errorf("without an address: %v", first)
	}
	if got := op.update(t, theirs("203.0.113.9")).GetLoadBalancerIps(); !slices.Equal(got, []string{"203.0.113.9"}) {
		t.Errorf("with an address of no pool: %v", got)
	}
	last := op.update(t, theirs())
	if len(last.GetLoadBalancerIps()) != 0 || last.GetHealthCheckNodePort() != first.GetHealthCheckNodePort() {
		t.Errorf("with its address taken back: %v, want what it was at first: %v", last, first)
	}
	if got := sys.metric("damask_servicelb_allocated", "loadbalancerip"); got != 0 {
		t.Errorf("%v addresses are allocated", got)
	}
	last.Type = servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP
	if got := op.update(t, last); got.GetLoadBalancerByOthers() {
		t.Errorf("to ClusterIP: %v", got)
	}
}

func TestExhaustionIsCountedAndSaysSo(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	var seen []string
	for i := range 14 { // a /28 without its first and last address
		seen = append(seen, op.create(t, web(fmt.Sprintf("w%d", i))).GetClusterIps()[0])
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != 14 {
		t.Errorf("addresses %v", seen)
	}
	_, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("more")})
	if status.Code(err) != codes.ResourceExhausted || rpcerr.Reason(err) != "EXHAUSTED" || !strings.Contains(err.Error(), "all 14 are taken") {
		t.Errorf("create: %v", err)
	}
	headless := op.create(t, web("headless", func(s *servicelbv1.Service) { s.ClusterIps = []string{"None"} }))
	if headless.GetClusterIps()[0] != "None" {
		t.Errorf("headless: %v", headless)
	}
	op.remove(t, "w3")
	op.create(t, web("more"))
	if got := sys.metric("damask_servicelb_exhausted_total", ""); got != 1 {
		t.Errorf("exhausted is counted %v times", got)
	}
	if got := sys.metric("damask_servicelb_allocated", "clusterip"); got != 14 {
		t.Errorf("allocated %v cluster IPs", got)
	}
}

// metric answers a metric of a kind, or the only one.
func (s *system) metric(name, kind string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (kind == "" || m.GetLabel()[0].GetValue() == kind) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

func TestCreateIsIdempotent(t *testing.T) {
	op := start(t, small()).operator()
	first := op.create(t, web("web", nodePort))
	if again := op.create(t, web("web", nodePort)); !proto.Equal(first, again) {
		t.Errorf("again %v, first %v", again, first)
	}
	if again := op.create(t, first); !proto.Equal(first, again) {
		t.Errorf("as it is %v, first %v", again, first)
	}
	_, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("web")})
	if status.Code(err) != codes.AlreadyExists || rpcerr.Reason(err) != "ALREADY_EXISTS" {
		t.Errorf("another type: %v", err)
	}
}

func TestAnUpdateKeepsWhatItDoesNotMention(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	first := op.create(t, web("web", balanced, func(s *servicelbv1.Service) { s.ExternalTrafficPolicy = local }))

	bare := op.update(t, web("web", balanced, func(s *servicelbv1.Service) {
		s.ExternalTrafficPolicy, s.Labels = local, map[string]string{"a": "b"}
	}))
	want := proto.CloneOf(first)
	want.Labels, want.Revision = map[string]string{"a": "b"}, bare.GetRevision()
	if !proto.Equal(bare, want) || bare.GetRevision() <= first.GetRevision() {
		t.Errorf("got  %v\nwant %v", bare, want)
	}
	if again := op.update(t, bare); !proto.Equal(again, bare) {
		t.Errorf("the same again: %v", again)
	}

	smaller := proto.CloneOf(bare)
	smaller.Type = servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP
	smaller = op.update(t, smaller)
	if smaller.GetPorts()[0].GetNodePort() != 0 || smaller.GetHealthCheckNodePort() != 0 || len(smaller.GetLoadBalancerIps()) != 0 ||
		smaller.GetExternalTrafficPolicy() != 0 || smaller.AllocateLoadBalancerNodePorts != nil || smaller.GetClusterIps()[0] != first.GetClusterIps()[0] {
		t.Errorf("to ClusterIP: %v", smaller)
	}
	for kind, want := range map[string]float64{"clusterip": 1, "nodeport": 0, "loadbalancerip": 0} {
		if got := sys.metric("damask_servicelb_allocated", kind); got != want {
			t.Errorf("to ClusterIP: %v of %s are allocated, want %v", got, kind, want)
		}
	}
	alias := proto.CloneOf(smaller)
	alias.Type, alias.ExternalName = servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME, "db.example.com"
	if alias = op.update(t, alias); len(alias.GetClusterIps()) != 0 || sys.metric("damask_servicelb_allocated", "clusterip") != 0 {
		t.Errorf("to ExternalName: %v", alias)
	}
	back := proto.CloneOf(alias)
	back.Type = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT
	if back = op.update(t, back); len(back.GetClusterIps()) != 1 || back.GetPorts()[0].GetNodePort() == 0 || back.GetExternalName() != "" {
		t.Errorf("back to NodePort: %v", back)
	}
}

func TestEveryRefusalHasItsCodeAndReason(t *testing.T) {
	sys := start(t, small())
	op, node := sys.operator(), sys.node("n1")
	stored := op.create(t, web("web", balanced, func(s *servicelbv1.Service) { s.ExternalTrafficPolicy = local }))
	slice := op.put(t, sliceOf("web", "web-1", "10.128.0.1"))
	update := func(change func(*servicelbv1.Service)) func() error {
		return func() error {
			s := proto.CloneOf(stored)
			change(s)
			_, err := op.UpdateService(soon(t), &servicelbv1.UpdateServiceRequest{Service: s})
			return err
		}
	}
	put := func(change func(*servicelbv1.EndpointSlice)) func() error {
		return func() error {
			s := proto.CloneOf(slice)
			change(s)
			_, err := op.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{EndpointSlice: s})
			return err
		}
	}
	cases := []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"another cluster IP", update(func(s *servicelbv1.Service) {
			other := "172.30.0.1"
			if s.ClusterIps[0] == other {
				other = "172.30.0.2"
			}
			s.ClusterIps = []string{other}
		}), codes.InvalidArgument, "INVALID_FIELD"},
		{"headless now", update(func(s *servicelbv1.Service) { s.ClusterIps = []string{"None"} }), codes.InvalidArgument, "INVALID_FIELD"},
		{"another health-check port", update(func(s *servicelbv1.Service) { s.HealthCheckNodePort ^= 1 }), codes.InvalidArgument, "INVALID_FIELD"},
		{"an update that is wrong", update(func(s *servicelbv1.Service) { s.Ports = nil }), codes.InvalidArgument, "INVALID_FIELD"},
		{"an old revision", update(func(s *servicelbv1.Service) { s.Revision--; s.Labels = map[string]string{"a": "b"} }), codes.Aborted, "STALE_REVISION"},
		{"an update of nothing", func() error {
			_, err := op.UpdateService(soon(t), &servicelbv1.UpdateServiceRequest{Service: web("gone")})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"get of the unknown", func() error {
			_, err := op.GetService(soon(t), &servicelbv1.GetServiceRequest{Namespace: "shop", Name: "gone"})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"no service", func() error { _, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{}); return err }, codes.InvalidArgument, "INVALID_FIELD"},
		{"a node that writes", func() error {
			_, err := node.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("x")})
			return err
		}, codes.PermissionDenied, ""},
		{"a node that writes endpoints", func() error {
			_, err := node.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{EndpointSlice: slice})
			return err
		}, codes.PermissionDenied, ""},
		{"no slice", func() error {
			_, err := op.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"a slice that moves", put(func(s *servicelbv1.EndpointSlice) { s.ServiceName = "db" }), codes.InvalidArgument, "INVALID_FIELD"},
		{"a slice that is IPv6", put(func(s *servicelbv1.EndpointSlice) { s.AddressType = 2 }), codes.InvalidArgument, "INVALID_FIELD"},
		{"a slice of an old revision", put(func(s *servicelbv1.EndpointSlice) { s.Revision--; s.Endpoints = nil }), codes.Aborted, "STALE_REVISION"},
		{"a slice that is gone, with a revision", put(func(s *servicelbv1.EndpointSlice) { s.Name = "gone" }), codes.Aborted, "STALE_REVISION"},
		{"a slice in the service's own name", put(func(s *servicelbv1.EndpointSlice) { s.ManagedBy = "servicelb.damask" }), codes.InvalidArgument, "INVALID_FIELD"},
		{"a page token of somebody else", func() error {
			_, err := op.ListServices(soon(t), &servicelbv1.ListServicesRequest{PageToken: "%"})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"a page that is too large", func() error {
			_, err := op.ListEndpointSlices(soon(t), &servicelbv1.ListEndpointSlicesRequest{PageSize: 1001})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"slices of a service in no namespace", func() error {
			_, err := op.ListEndpointSlices(soon(t), &servicelbv1.ListEndpointSlicesRequest{ServiceName: "web"})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			if status.Code(err) != c.code || rpcerr.Reason(err) != c.reason {
				t.Errorf("%v with reason %q, want %v with %q", err, rpcerr.Reason(err), c.code, c.reason)
			}
		})
	}
	if got, err := op.GetService(soon(t), &servicelbv1.GetServiceRequest{Namespace: "shop", Name: "web"}); err != nil || !proto.Equal(got.GetService(), stored) {
		t.Errorf("after all that: %v, %v", got, err)
	}
}

func TestListPagesCoverEverythingInOrder(t *testing.T) {
	sys := start(t, large())
	op, node := sys.operator(), sys.node("n1")
	var want, wantShop []string
	for i := range 30 {
		namespace := []string{"shop", "shop-2", "a"}[i%3]
		s := web(fmt.Sprintf("w%d", i))
		s.Namespace = namespace
		op.create(t, s)
		e := sliceOf(s.Name, s.Name+"-x", "10.128.0.1")
		e.Namespace = namespace
		op.put(t, e)
		want = append(want, namespace+"/"+s.Name)
		if namespace == "shop" {
			wantShop = append(wantShop, namespace+"/"+s.Name)
		}
	}
	slices.Sort(wantShop)
	services := func(c client, namespaces ...string) []string {
		var got []string
		r := &servicelbv1.ListServicesRequest{PageSize: 4, Namespaces: namespaces}
		for {
			page, err := c.ListServices(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page.GetServices() {
				got = append(got, s.GetNamespace()+"/"+s.GetName())
			}
			if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
				return got
			}
		}
	}
	endpoints := func(namespaces ...string) []string {
		var got []string
		r := &servicelbv1.ListEndpointSlicesRequest{PageSize: 4, Namespaces: namespaces}
		for {
			page, err := node.ListEndpointSlices(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page.GetEndpointSlices() {
				got = append(got, s.GetNamespace()+"/"+s.GetServiceName())
			}
			if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
				return got
			}
		}
	}
	for what, got := range map[string][]string{"operator": services(op), "node": services(node), "all three": services(node, "shop-2", "a", "shop", "a"), "slices": endpoints(), "slices of three": endpoints("shop", "a", "shop-2")} {
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	if got := services(node, "shop"); !slices.Equal(got, wantShop) {
		t.Errorf("shop: got %v, want %v", got, wantShop)
	}
	if got := endpoints("shop", "nobody"); !slices.Equal(got, wantShop) {
		t.Errorf("slices of shop: got %v, want %v", got, wantShop)
	}
}

func TestSlicesGoWithTheirService(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	op.create(t, web("web"))
	first := op.put(t, sliceOf("web", "web-1", "10.128.0.1"))
	if again := op.put(t, sliceOf("web", "web-1", "10.128.0.1")); !proto.Equal(first, again) || first.GetRevision() == 0 {
		t.Errorf("the same again: %v, first %v", again, first)
	}
	op.put(t, sliceOf("web", "web-2", "10.128.0.2"))
	op.put(t, sliceOf("other", "other-1", "10.128.0.3"))
	of := func(service string) int {
		page, err := op.ListEndpointSlices(soon(t), &servicelbv1.ListEndpointSlicesRequest{Namespaces: []string{"shop"}, ServiceName: service, PageSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		n := len(page.GetEndpointSlices())
		if page.GetNextPageToken() != "" {
			n++
		}
		return n
	}
	if of("web") != 2 || of("other") != 1 {
		t.Errorf("%d and %d slices", of("web"), of("other"))
	}
	op.remove(t, "web")
	op.remove(t, "web")
	if of("web") != 0 || of("other") != 1 {
		t.Errorf("after delete %d and %d slices", of("web"), of("other"))
	}
	for range 2 {
		if _, err := op.DeleteEndpointSlice(soon(t), &servicelbv1.DeleteEndpointSliceRequest{Namespace: "shop", Name: "other-1"}); err != nil {
			t.Fatal(err)
		}
	}
	if of("other") != 0 {
		t.Error("the slice is still there")
	}
}
