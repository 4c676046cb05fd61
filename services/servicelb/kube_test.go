package servicelb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// rights are those that are shipped: what the service may do in a cluster, and no more.
const rights = "../../deploy/kustomize/base/rbac/servicelb.yaml"

const loadBalancer = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.128.2.4], nodeName: n1, conditions: {ready: true}}]
`

// has waits until the store has one service and one slice in a namespace.
func (s *system) has(t *testing.T) (*servicelbv1.Service, *servicelbv1.EndpointSlice) {
	t.Helper()
	ctx := soon(t)
	for {
		services, err := s.operator().ListServices(ctx, &servicelbv1.ListServicesRequest{Namespaces: []string{"shop"}})
		list, errSlices := s.operator().ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{Namespaces: []string{"shop"}})
		if err == nil && errSlices == nil && len(services.GetServices()) == 1 && len(list.GetEndpointSlices()) == 1 {
			return services.GetServices()[0], list.GetEndpointSlices()[0]
		}
		if ctx.Err() != nil {
			t.Fatalf("%v, %v, %v, %v", services, err, list, errSlices)
		}
	}
}

func TestOnKubernetesServicesAndSlicesAreTakenOver(t *testing.T) {
	cluster := kubetest.Start(t)
	cluster.Kubectl(t, "create", "namespace", "shop")
	cfg := Config{LoadBalancerIPs: []string{"192.0.2.1-192.0.2.9"}, Kubernetes: kube.Config{Enabled: true, Kubeconfig: cluster.AsServiceAccount(t, rights).Kubeconfig()}}
	sys := start(t, cfg)
	began := time.Now()
	cluster.Apply(t, loadBalancer)
	service, slice := sys.has(t)
	t.Logf("stored %v after kubectl began", time.Since(began).Round(time.Millisecond))
	ip := ""
	for ctx := soon(t); ip == ""; ip = cluster.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}") {
		if ctx.Err() != nil {
			t.Fatal("it is given no address")
		}
	}
	if want := cluster.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}"); service.GetClusterIps()[0] != want || service.GetLoadBalancerIps()[0] != ip || slice.GetServiceName() != "web" {
		t.Errorf("%v, %v; want %s and %s", service, slice, want, ip)
	}
	// A store that has nothing gets all of it back, and the address.
	again := start(t, cfg)
	if service, _ := again.has(t); len(service.GetLoadBalancerIps()) != 1 || service.GetLoadBalancerIps()[0] != ip {
		t.Errorf("%v, want %s", service, ip)
	}
	cluster.Kubectl(t, "patch", "service", "web", "-n", "shop", "--type=merge", "-p", `{"spec": {"loadBalancerIP": "203.0.113.9"}}`)
	for ctx := soon(t); !strings.Contains(cluster.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.status.conditions}"), "spec.loadBalancerIP: 203.0.113.9 is not"); {
		if ctx.Err() != nil {
			t.Fatal("it is not refused")
		}
	}
	cluster.Kubectl(t, "delete", "service/web", "endpointslice/web-x", "-n", "shop")
	for ctx := soon(t); ; {
		services, err := sys.operator().ListServices(ctx, &servicelbv1.ListServicesRequest{})
		slices, _ := sys.operator().ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{Namespaces: []string{"shop"}})
		if err == nil && len(slices.GetEndpointSlices()) == 0 && len(services.GetServices()) == 1 { // "kubernetes" in "default"
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%v, %v", services, err)
		}
	}
}

// count waits until the store has so many services and slices in a namespace.
func (s *system) count(t *testing.T, services, slices int) {
	t.Helper()
	ctx := soonOnKubernetes(t)
	for {
		all, err := s.operator().ListServices(ctx, &servicelbv1.ListServicesRequest{Namespaces: []string{"shop"}})
		list, errSlices := s.operator().ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{Namespaces: []string{"shop"}})
		if err == nil && errSlices == nil && len(all.GetServices()) == services && len(list.GetEndpointSlices()) == slices {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("want %d and %d: %v, %v, %v, %v", services, slices, all, err, list, errSlices)
		}
	}
}

func TestOnKubernetesWhatIsAnotherProxysIsLeftToIt(t *testing.T) {
	cluster := kubetest.Start(t)
	cluster.Kubectl(t, "create", "namespace", "shop")
	sys := start(t, Config{LoadBalancerIPs: []string{"192.0.2.1-192.0.2.1"}, Kubernetes: kube.Config{Enabled: true, Kubeconfig: cluster.AsServiceAccount(t, rights).Kubeconfig()}})
	cluster.Apply(t, loadBalancer)
	sys.count(t, 1, 1)
	address := func() string {
		return cluster.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	}
	for ctx := soonOnKubernetes(t); address() != "192.0.2.1"; {
		if ctx.Err() != nil {
			t.Fatal("it is given no address")
		}
	}
	for _, label := range []string{"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"} {
		cluster.Kubectl(t, "label", "endpointslice", "web-x", "-n", "shop", label+"=")
		sys.count(t, 1, 0)
		cluster.Kubectl(t, "label", "endpointslice", "web-x", "-n", "shop", label+"-")
		sys.count(t, 1, 1)
		cluster.Kubectl(t, "label", "service", "web", "-n", "shop", label+"=other")
		sys.count(t, 0, 1)
		if got := address(); got != "" {
			t.Errorf("%s: another's service still has the address %s", label, got)
		}
		cluster.Kubectl(t, "label", "service", "web", "-n", "shop", label+"-")
		sys.count(t, 1, 1)
		for ctx := soonOnKubernetes(t); address() != "192.0.2.1"; {
			if ctx.Err() != nil {
				t.Fatalf("%s: it came back, and is given no address", label)
			}
		}
	}
}

const somebodyElses = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  loadBalancerClass: example.com/lb
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.128.2.4], nodeName: n1, conditions: {ready: true}}]
`

// Whoever balances by another class asks the health-check port which nodes to use, before it
// shows an address and also if it never does, and gives and takes addresses as it likes.
func TestOnKubernetesSomebodyElseBalances(t *testing.T) {
	for name, pools := range map[string][]string{"beside pools": {"198.51.100.1-198.51.100.9"}, "without pools": nil} {
		t.Run(name, func(t *testing.T) {
			cluster := kubetest.Start(t)
			cluster.Kubectl(t, "create", "namespace", "shop")
			sys := start(t, Config{LoadBalancerIPs: pools, Kubernetes: kube.Config{Enabled: true, Kubeconfig: cluster.AsServiceAccount(t, rights).Kubeconfig()}})
			cluster.Apply(t, somebodyElses)
			service, _ := sys.has(t)
			want := cluster.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.spec.healthCheckNodePort} {.spec.ports[0].nodePort}")
			if got := fmt.Sprintf("%d %d", service.GetHealthCheckNodePort(), service.GetPorts()[0].GetNodePort()); got != want || len(service.GetLoadBalancerIps()) != 0 {
				t.Errorf("it has the ports %s and the addresses %v; want %s and none", got, service.GetLoadBalancerIps(), want)
			}
			for _, ip := range []string{"192.0.2.7", ""} {
				status := `{"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}}`
				if ip != "" {
					status = fmt.Sprintf(`{"status": {"loadBalancer": {"ingress": [{"ip": %q}]}}}`, ip)
				}
				cluster.Kubectl(t, "patch", "service", "web", "-n", "shop", "--subresource=status", "--type=merge", "-p", status)
				for ctx := soonOnKubernetes(t); strings.Join(service.GetLoadBalancerIps(), " ") != ip; service, _ = sys.has(t) {
					if ctx.Err() != nil {
						t.Fatalf("it has the addresses %v, want %q", service.GetLoadBalancerIps(), ip)
					}
				}
				if got := fmt.Sprintf("%d %d", service.GetHealthCheckNodePort(), service.GetPorts()[0].GetNodePort()); got != want {
					t.Errorf("it has the ports %s, want %s", got, want)
				}
			}
		})
	}
}
