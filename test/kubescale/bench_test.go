package kubescale

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
)

// cacheEnv has this program be a bare cache of the kinds that a service follows: what its
// memory is compared with.
const cacheEnv = "KUBESCALE_CACHE_OF"

// followed are the kinds that each service watches.
var followed = map[string][]schema.GroupVersionResource{
	"ipam":         {nodes, hostSubnets},
	"tenancy":      {namespaces, pods, policies, netNamespaces},
	"servicelb":    {services, slicesKind},
	"egress":       {hostSubnets, netNamespaces},
	"nodeagent":    {hostSubnets, services, slicesKind},
	"certificates": {requestsKind},
}

func TestMain(m *testing.M) {
	if service := os.Getenv(cacheEnv); service != "" {
		if err := cache(service, os.Getenv("KUBECONFIG")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// cache keeps objects as they are, as client-go does by itself, and says when it has all.
func cache(service, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	known, others := informers.NewSharedInformerFactory(typed, 0), dynamicinformer.NewDynamicSharedInformerFactory(untyped, 0)
	for _, kind := range followed[service] {
		if kind.Group == netNamespaces.Group {
			others.ForResource(kind).Informer()
		} else if _, err := known.ForResource(kind); err != nil {
			return err
		} else if informer, err := known.ForResource(kind); err == nil {
			informer.Informer()
		}
	}
	ctx := context.Background()
	known.Start(ctx.Done())
	others.Start(ctx.Done())
	known.WaitForCacheSync(ctx.Done())
	others.WaitForCacheSync(ctx.Done())
	fmt.Println("synced")
	select {}
}

// BenchmarkObjectsOnKubernetes measures what objects cost, one after the other; b.N says
// nothing.
func BenchmarkObjectsOnKubernetes(b *testing.B) {
	s := newSystem(b)
	api := s.through(s.cluster.NewGate(b))
	b.ResetTimer()
	s.plan()
	s.latencies(api)
}

// BenchmarkMemoryOnKubernetes measures once what a large cluster's objects take; b.N says
// nothing.
func BenchmarkMemoryOnKubernetes(b *testing.B) {
	s := newSystem(b)
	api := s.through(s.cluster.NewGate(b))
	b.ResetTimer()
	s.plan()
	s.populate(api)
	s.memories(s.startAgent(), s.startCertificates(api))
}

// plan gives the cluster its networks, as many nodes as there are have subnets of them.
func (s *system) plan() {
	s.Helper()
	s.cluster.Apply(s.B, `{apiVersion: network.openshift.io/v1, kind: ClusterNetwork, metadata: {name: default}, network: 10.128.0.0/9, hostsubnetlength: 8,
		serviceNetwork: 172.30.0.0/16, clusterNetworks: [{CIDR: 10.128.0.0/9, hostSubnetLength: 8}]}`)
	s.cluster.Kubectl(s.B, "wait", "clusternetwork/default", "--for=condition=Accepted", "--timeout=120s")
}

// memories waits until the services have taken all objects over and an agent has programmed
// them, and reports what each has of the machine's memory, beside a bare cache of the same objects.
func (s *system) memories(agent *agent, certificates *proctest.Process) {
	s.Helper()
	for _, want := range []struct {
		service, kind string
		least         int
	}{
		{"ipam", "hostsubnet", manyNodes}, {"tenancy", "netnamespace", manyNamespaces}, {"servicelb", "service", manyServices}, {"servicelb", "endpointslice", manyServices},
	} {
		s.until(fmt.Sprintf("%s has %d of %s", want.service, want.least, want.kind), func() bool { return s.keys(want.service, want.kind) >= want.least })
	}
	s.awaitAgent(agent)
	pids := map[string]int{"nodeagent": agent.Pid(), "certificates": certificates.Pid()}
	for _, name := range names {
		pids[name] = s.service[name].Pid()
	}
	for name, pid := range pids {
		s.ReportMetric(memory(s.B, pid), name+"-MB")
		s.ReportMetric(memory(s.B, s.bare(name)), name+"-bare-MB")
	}
}

// keys answers how many keys of a kind a service has stored.
func (s *system) keys(service, kind string) int {
	s.Helper()
	js, err := jetstream.New(s.bus(service))
	if err != nil {
		s.Fatal(err)
	}
	bucket := natsd.BucketName(service)
	stream, err := js.Stream(context.Background(), "KV_"+bucket)
	if err != nil {
		s.Fatal(err)
	}
	info, err := stream.Info(context.Background(), jetstream.WithSubjectFilter("$KV."+bucket+"."+kind+".>"))
	if err != nil {
		s.Fatal(err)
	}
	return len(info.State.Subjects)
}

// bare starts a bare cache of what a service follows, and answers its process when it has all.
func (s *system) bare(service string) (pid int) {
	s.Helper()
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), cacheEnv+"="+service, "KUBECONFIG="+s.cluster.Kubeconfig())
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	process := proctest.Start(s.B, cmd)
	if err := write.Close(); err != nil {
		s.Fatal(err)
	}
	said := make([]byte, len("synced"))
	if _, err := read.Read(said); err != nil || !strings.HasPrefix(string(said), "synced") {
		s.Fatalf("a bare cache of what %s follows: %q, %v", service, said, err)
	}
	return process.Pid()
}
