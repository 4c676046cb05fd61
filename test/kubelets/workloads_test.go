package kubelets

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// workloads are a server on each node and what is asked for it, a client beside one of
// them, and one that answers `probe flow`. A server that is told to end serves on for a
// while, as those of real applications do.
const workloads = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: localhost/damask-test:dev
        command: [/probe, serve, "8080", $(POD)]
        stdin: true
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec:
  nodeName: node1
  containers: [{name: client, image: "localhost/damask-test:dev"}]
---
apiVersion: v1
kind: Pod
metadata: {name: reply, namespace: shop, labels: {app: reply}}
spec:
  nodeName: node2
  containers:
  - name: reply
    image: localhost/damask-test:dev
    command: [/probe, reply, "9000"]
    stdin: true
    ports: [{containerPort: 9000, hostPort: 19000}, {containerPort: 9000, hostPort: 19000, protocol: UDP}]
    readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
`

// shop is the cluster with the workloads.
type shop struct {
	*cluster
	client    place
	clientIP  string
	clusterIP string
}

// open starts the workloads and returns when all of them are ready.
func open(t *testing.T, c *cluster) *shop {
	t.Helper()
	began := time.Now()
	c.Apply(t, workloads)
	c.wait(t, "-n", "shop", "deployment/web", "--for=jsonpath={.status.readyReplicas}=3")
	c.wait(t, "-n", "shop", "pod/client", "pod/reply", "--for=condition=Ready")
	t.Logf("all pods are ready after %v", time.Since(began).Round(time.Second))
	s := &shop{cluster: c, clientIP: c.podIP(t, "client")}
	s.clusterIP = c.Kubectl(t, "get", "service", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
	network, err := c.nodes[0].podNetwork(s.clientIP)
	if err != nil {
		t.Fatal(err)
	}
	s.client = place{name: "client", network: network}
	return s
}

func (c *cluster) podIP(t *testing.T, name string) string {
	t.Helper()
	return c.Kubectl(t, "get", "pod", name, "-n", "shop", "-o", "jsonpath={.status.podIP}")
}

// lines answers one line for each pod of a selector.
func (c *cluster) lines(t *testing.T, selector, form string) []string {
	t.Helper()
	return strings.Fields(c.Kubectl(t, "get", "pods", "-n", "shop", "-l", selector, "-o", `jsonpath={range .items[*]}`+form+`{"\n"}{end}`))
}

func TestWorkloadsOfKubernetes(t *testing.T) {
	c := start(t, 3, append(damaskImages(t), testArchive))
	c.install(t)
	s := open(t, c)
	t.Run("EveryServerIsReachedThroughTheService", s.everyServerIsReached)
	t.Run("PodsReachTheAPIServerByItsService", s.podsReachTheAPIServer)
	t.Run("PodsAreReachedByKubectl", s.podsAreReachedByKubectl)
	t.Run("HostPortsLeadToTheirPod", s.hostPortsLead)
	t.Run("PodsAreAsFastAsTheySay", s.podsAreAsFastAsTheySay)
	t.Run("AKubeletThatIsRestartedChangesNothing", s.kubeletIsRestarted)
	t.Run("AStatefulSetPodOfTheSameNameComesBack", s.statefulPodComesBack)
	t.Run("ADrainedNodeLosesNoConnection", s.nodeIsDrained)
	t.Run("AHundredPodsOnANode", s.hundredPods)
}

// everyServerIsReached asks through the Service from a pod and from each node.
func (s *shop) everyServerIsReached(t *testing.T) {
	want := len(s.lines(t, "app=web", "{.metadata.name}"))
	nodes := map[string]bool{}
	for _, node := range s.lines(t, "app=web", "{.spec.nodeName}") {
		nodes[node] = true
	}
	if len(nodes) != len(s.nodes) {
		t.Errorf("the servers are on %v, want one on each of %d nodes", nodes, len(s.nodes))
	}
	// That one of three is never chosen happens once in 10^10 runs.
	if got := s.client.load(t, "tcp", s.clusterIP+":80", 60).servers(t, s.clientIP); len(got) != want {
		t.Errorf("the client is answered by %v, want %d servers", got, want)
	}
	for _, n := range s.nodes {
		if got := n.place().load(t, "tcp", s.clusterIP+":80", 60).servers(t, ""); len(got) != want {
			t.Errorf("%s is answered by %v, want %d servers", n.Name(), got, want)
		}
	}
}

// podsReachTheAPIServer asks it by the cluster IP that every pod is told.
func (s *shop) podsReachTheAPIServer(t *testing.T) {
	kubectl := s.Command("--server=https://"+kubetest.ServiceIP+":443", "get", "--raw", "/readyz")
	inside := s.client.command(kubectl.Path, kubectl.Args[1:]...)
	inside.Env = kubectl.Env
	if out, err := inside.CombinedOutput(); err != nil || string(out) != "ok" {
		t.Errorf("from the client: %q, %v", out, err)
	}
}

// hostPortsLead asks a pod by its node's address, from another node and from a pod.
func (s *shop) hostPortsLead(t *testing.T) {
	addr := netip.AddrPortFrom(s.nodes[1].addr, 19000).String()
	for _, from := range []place{s.client, s.nodes[0].place(), s.nodes[2].place()} {
		var seen flow
		running := from.start(t, "flow", addr, "5ms")
		s.until(t, "True", "get", "pod", "reply", "-n", "shop", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		running.result(t, &seen)
		seen.lost(t, from.name)
	}
}

// flow is what `probe flow` saw.
type flow struct {
	UDPSent, UDPReturned, StreamSent, StreamReturned, Connected, Refused int64
	StreamError, LastError                                               string
}

// lost complains of everything that was sent and did not come back.
func (f flow) lost(t *testing.T, from string) {
	t.Helper()
	if f.UDPSent == 0 || f.UDPSent != f.UDPReturned || f.StreamSent == 0 || f.StreamSent != f.StreamReturned || f.Connected == 0 || f.Refused > 0 {
		t.Errorf("from %s something was lost: %+v", from, f)
	}
}

// kubeletIsRestarted stops and starts a kubelet under traffic of its node's pods.
func (s *shop) kubeletIsRestarted(t *testing.T) {
	n := s.nodes[1]
	running := s.client.start(t, "flow", s.podIP(t, "reply")+":9000", "5ms")
	state := func() string {
		return s.Kubectl(t, "get", "pods", "-A", "--field-selector=spec.nodeName="+n.Name(), "--sort-by=.metadata.uid",
			"-o", "jsonpath={range .items[*]}{.metadata.uid} {.status.podIP} {.status.containerStatuses[*].containerID}{\"\\n\"}{end}")
	}
	heartbeat := func() string {
		return s.Kubectl(t, "get", "lease", n.Name(), "-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}")
	}
	before := state()
	n.kubelet.Stop()
	last := heartbeat()
	n.startKubelet(t)
	s.waitFor(t, "the kubelet is back", func() error {
		if heartbeat() == last {
			return fmt.Errorf("its lease is still of %s", last)
		}
		return nil
	})
	s.waitUntilReady(t)
	if after := state(); after != before {
		t.Errorf("the pods of %s are now\n%s\nand were\n%s", n.Name(), after, before)
	}
	var seen flow
	running.result(t, &seen)
	seen.lost(t, "the client")
	t.Logf("meanwhile %d datagrams, %d records and %d connections", seen.UDPReturned, seen.StreamReturned, seen.Connected)
}

const statefulSet = `
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  replicas: 1
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node3}
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: localhost/damask-test:dev
        command: [/probe, serve, "8080", $(UID)]
        stdin: true
        env: [{name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`

// statefulPodComesBack deletes a pod whose successor has its name, several times.
func (s *shop) statefulPodComesBack(t *testing.T) {
	s.Apply(t, statefulSet)
	for range 3 {
		s.wait(t, "-n", "shop", "statefulset/db", "--for=jsonpath={.status.readyReplicas}=1")
		uid := s.Kubectl(t, "get", "pod", "db-0", "-n", "shop", "-o", "jsonpath={.metadata.uid}")
		addr := s.podIP(t, "db-0")
		if got := s.client.load(t, "tcp", addr+":8080", 5).servers(t, s.clientIP); got[uid] != 5 {
			t.Errorf("at %s, which is of %s, answers %v", addr, uid, got)
		}
		s.Kubectl(t, "delete", "pod", "db-0", "-n", "shop")
		s.waitFor(t, "db-0 has a successor", func() error {
			now, err := s.TryKubectl("get", "pod", "db-0", "-n", "shop", "-o", "jsonpath={.metadata.uid} {.status.podIP}")
			if err == nil && (strings.HasPrefix(now, uid) || strings.HasSuffix(now, " ")) {
				err = fmt.Errorf("it is %s", now)
			}
			return err
		})
	}
}

// nodeIsDrained drains a node under connections through the Service.
func (s *shop) nodeIsDrained(t *testing.T) {
	n := s.nodes[2]
	running := s.client.start(t, "load", "tcp", s.clusterIP+":80", "rate", "50")
	s.Kubectl(t, "drain", n.Name(), "--ignore-daemonsets", "--delete-emptydir-data", "--force", fmt.Sprintf("--timeout=%v", limit))
	s.wait(t, "-n", "shop", "deployment/web", "--for=jsonpath={.status.readyReplicas}=3")
	if nodes := s.lines(t, "app=web", "{.spec.nodeName}"); strings.Contains(strings.Join(nodes, " "), n.Name()) {
		t.Errorf("%s is drained, and the servers are on %v", n.Name(), nodes)
	}
	var seen shares
	running.result(t, &seen)
	t.Logf("meanwhile answered: %v", seen.servers(t, s.clientIP))
	s.Kubectl(t, "uncordon", n.Name())
}

const many = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: many, namespace: shop}
spec:
  replicas: 100
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node3}
      terminationGracePeriodSeconds: 1
      containers: [{name: many, image: "localhost/damask-test:dev"}]
`

// hundredPods has a hundred pods of one Deployment on one node, and asks each.
func (s *shop) hundredPods(t *testing.T) {
	began := time.Now()
	s.Apply(t, many)
	s.wait(t, "-n", "shop", "deployment/many", "--for=jsonpath={.status.readyReplicas}=100")
	t.Logf("100 pods are ready after %v", time.Since(began).Round(time.Second))
	var checks strings.Builder
	addrs := map[string]bool{}
	for _, addr := range s.lines(t, "app=many", "{.status.podIP}") {
		addrs[addr] = true
		fmt.Fprintf(&checks, "icmp %s 56\n", addr)
	}
	if len(addrs) != 100 {
		t.Errorf("100 pods have %d addresses", len(addrs))
	}
	if failed := s.client.check(t, checks.String()); len(failed) > 0 {
		t.Errorf("pods that do not answer: %v", failed)
	}
	began = time.Now()
	s.Kubectl(t, "delete", "deployment", "many", "-n", "shop", "--cascade=foreground", fmt.Sprintf("--timeout=%v", limit))
	t.Logf("they are gone after %v", time.Since(began).Round(time.Second))
}
