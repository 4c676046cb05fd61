package attach_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/damask-sdn/damask/services/nodeagent/attach"
)

// buildPlugin builds damask-cni as the Makefile does.
func buildPlugin(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(dir, "damask-cni"),
		"github.com/damask-sdn/damask/services/nodeagent/cmd/damask-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	return dir
}

// runtime is a container runtime: libcni with the built plugin.
type runtime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newRuntime(t testing.TB, plugins, socket, version string) *runtime {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{
		"cniVersion": %q, "name": "damask", "plugins": [
			{"type": "damask-cni", "socket": %q, "timeout": 60, "capabilities": {"ips": true, "io.kubernetes.cri.pod-annotations": true}, "something": "newer"}
		]}`, version, socket))
	if err != nil {
		t.Fatal(err)
	}
	// Given, because libcni makes it at first use, without a lock.
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{}}
	return &runtime{cni: libcni.NewCNIConfigWithCacheDir([]string{plugins}, t.TempDir(), exec), list: list}
}

func (p *pod) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.Path(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", p.namespace}, {"K8S_POD_NAME", p.id},
			{"K8S_POD_INFRA_CONTAINER_ID", p.id}, {"K8S_POD_UID", "7"}, {"OTHERS", "argument"},
		},
	}
}

func (r *runtime) add(t testing.TB, conf *libcni.RuntimeConf) *types100.Result {
	t.Helper()
	raw, err := r.cni.AddNetworkList(t.Context(), r.list, conf)
	if err != nil {
		t.Fatalf("ADD %s: %v", conf.ContainerID, err)
	}
	result, err := types100.NewResultFromResult(raw)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// expectCode checks the CNI error code and that the text says things.
func expectCode(t testing.TB, err error, code uint, says ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want CNI error code %d", err, code)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not say %q: %v", s, err)
		}
	}
}

// serveHere serves in the test's process until the test ends.
func (n *node) serveHere(t testing.TB, change func(*attach.Parts)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if err := serveOn(ctx, n.server(change), n.place.Socket); err != nil {
			t.Error(err)
		}
	}()
	awaitSocket(t, n.place.Socket, gone)
	t.Cleanup(func() {
		cancel()
		<-gone
	})
}

func TestPluginInEveryVersionOfTheSpecification(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	n.serveHere(t, nil)
	peer := newPod(t, "shop", "peer")
	peerIP := ipOf(add(t, n.server(nil), peer.request()))
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			r := newRuntime(t, plugins, n.place.Socket, version)
			p := newPod(t, "shop", "pod-"+strings.ReplaceAll(version, ".", "-"))
			result := r.add(t, p.runtimeConf())
			expectObserved(t, n, p, result, version)
			if !p.reaches(peerIP) {
				t.Error("the first ping after ADD was lost")
			}
			if version > "0.3.9" {
				if err := r.cni.CheckNetworkList(t.Context(), r.list, p.runtimeConf()); err != nil {
					t.Errorf("CHECK: %v", err)
				}
			}
			for range 2 {
				if err := r.cni.DelNetworkList(t.Context(), r.list, p.runtimeConf()); err != nil {
					t.Errorf("DEL: %v", err)
				}
			}
		})
	}
}

// expectObserved compares a result with the pod section of the observed node.
func expectObserved(t *testing.T, n *node, p *pod, result *types100.Result, version string) {
	t.Helper()
	if len(result.Interfaces) != 2 || len(result.IPs) != 1 {
		t.Fatalf("result has %d interfaces and %d addresses, want 2 and 1: %v", len(result.Interfaces), len(result.IPs), result)
	}
	host, eth0, ip := result.Interfaces[0], result.Interfaces[1], result.IPs[0]
	want := ip.Address.IP.To4()
	mac := fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", want[0], want[1], want[2], want[3])
	if eth0.Name != "eth0" || eth0.Sandbox != p.Path() || eth0.Mac != mac {
		t.Errorf("pod's interface is %+v, want eth0 in %s with MAC %s", eth0, p.Path(), mac)
	}
	if host.Sandbox != "" || !strings.HasPrefix(host.Name, "veth") {
		t.Errorf("node's interface is %+v, want a veth without sandbox", host)
	}
	if version == "1.1.0" && (eth0.Mtu != mtu || host.Mtu != mtu) {
		t.Errorf("MTUs are %d and %d, want %d", eth0.Mtu, host.Mtu, mtu)
	}
	if ip.Gateway.String() != "10.130.0.1" || *ip.Interface != 1 {
		t.Errorf("address is %+v, want gateway 10.130.0.1 and interface 1", ip)
	}
	var routes []string
	for _, r := range result.Routes {
		routes = append(routes, strings.TrimSpace(fmt.Sprintf("%s %s", r.Dst.String(), text(r.GW))))
	}
	if got, want := strings.Join(routes, ", "), "0.0.0.0/0 10.130.0.1, 10.128.0.0/14, 224.0.0.0/4"; got != want {
		t.Errorf("routes are %s, want %s", got, want)
	}
	expectPodLinks(t, n, p, host.Name, host.Mac)
	expectPodRoutes(t, p, ip.Address.IP.String())
}

func text(s fmt.Stringer) string {
	if got := s.String(); got != "<nil>" {
		return got
	}
	return ""
}

func expectPodLinks(t *testing.T, n *node, p *pod, host, mac string) {
	t.Helper()
	if out := n.ns.Run(t, "ip", "-o", "link", "show", host); !strings.Contains(out, mac) || !strings.Contains(out, "mtu 1450") {
		t.Errorf("the node's interface is %s, want MAC %s and MTU 1450", out, mac)
	}
	if out := p.Run(t, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, "mtu 1450") || !strings.Contains(out, "state UP") {
		t.Errorf("the pod's interface is %s, want it up with MTU 1450", out)
	}
}

// expectPodRoutes compares a pod's routes with the observed ones.
func expectPodRoutes(t *testing.T, p *pod, ip string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(p.Run(t, "ip", "route")) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"default via 10.130.0.1 dev eth0",
		"10.128.0.0/14 dev eth0",
		"10.130.0.0/23 dev eth0 proto kernel scope link src " + ip,
		"224.0.0.0/4 dev eth0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("routes in the pod are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPluginTakesWishes(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	n.serveHere(t, nil)
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	p := newPod(t, "shop", "web")
	conf := p.runtimeConf()
	conf.CapabilityArgs = map[string]any{"ips": []string{"10.130.1.9/23"}}
	conf.Args = append(conf.Args, [2]string{"IP", "10.130.1.8"}, [2]string{"DAMASK_OFPORT", "99"})
	if got := r.add(t, conf).IPs[0].Address.String(); got != "10.130.1.9/23" {
		t.Errorf("got %s, want the capability's 10.130.1.9/23", got)
	}
	if port := n.leases.List()[0].Attachment.GetOfport(); port != 99 {
		t.Errorf("got port %d, want 99", port)
	}
	other := newPod(t, "shop", "other").runtimeConf()
	other.Args = append(other.Args, [2]string{"IP", "10.130.1.9"})
	_, err := r.cni.AddNetworkList(t.Context(), r.list, other)
	expectCode(t, err, 103, "10.130.1.9", "shop/web")
	other.Args[len(other.Args)-1] = [2]string{"DAMASK_OFPORT", "99"}
	_, err = r.cni.AddNetworkList(t.Context(), r.list, other)
	expectCode(t, err, 105, "99", "shop/web")
}

func TestPluginErrorsHaveCodes(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	ready := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	p := newPod(t, "shop", "web")
	_, err := ready.cni.AddNetworkList(t.Context(), ready.list, p.runtimeConf())
	expectCode(t, err, types.ErrTryAgainLater, n.place.Socket)
	expectCode(t, ready.cni.GetStatusNetworkList(t.Context(), ready.list), types.ErrPluginNotAvailable, n.place.Socket)
	expectCode(t, ready.cni.DelNetworkList(t.Context(), ready.list, p.runtimeConf()), types.ErrTryAgainLater)
	n.serveHere(t, nil)
	if err := ready.cni.GetStatusNetworkList(t.Context(), ready.list); err != nil {
		t.Errorf("STATUS of a ready node: %v", err)
	}
	stranger := newPod(t, "nobody", "web")
	_, err = ready.cni.AddNetworkList(t.Context(), ready.list, stranger.runtimeConf())
	expectCode(t, err, 102, "nobody")
	conf := p.runtimeConf()
	conf.NetNS = "/run/netns/never"
	_, err = ready.cni.AddNetworkList(t.Context(), ready.list, conf)
	expectCode(t, err, types.ErrInvalidEnvironmentVariables, "/run/netns/never")
	ip := ready.add(t, p.runtimeConf()).IPs[0].Address.IP.String()
	n.sw.Ofctl(t, "del-flows", "br0", "table=40,arp,arp_tpa="+ip)
	err = ready.cni.CheckNetworkList(t.Context(), ready.list, p.runtimeConf())
	expectCode(t, err, 104, "flows")
	if _, err := n.server(nil).Delete(t.Context(), p.deletion()); err != nil {
		t.Fatal(err)
	}
	err = ready.cni.CheckNetworkList(t.Context(), ready.list, p.runtimeConf())
	expectCode(t, err, types.ErrUnknownContainer, "web")
	n.expectNothing(t)
}

// inParallel runs do for each pod, ten at a time, and collects errors.
func inParallel(pods []*pod, do func(p *pod) error) error {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
		slots = make(chan struct{}, 10)
	)
	for _, p := range pods {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := do(p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", p.id, err))
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func TestManyPodsInParallelLeaveNothing(t *testing.T) {
	const many = 200
	plugins := buildPlugin(t)
	n := newNode(t)
	n.serveHere(t, nil)
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	pods := make([]*pod, many)
	for i := range pods {
		pods[i] = newPod(t, "shop", fmt.Sprintf("pod-%d", i))
	}
	err := inParallel(pods, func(p *pod) error {
		_, err := r.cni.AddNetworkList(t.Context(), r.list, p.runtimeConf())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range n.leases.List() {
		seen[l.Attachment.GetIps()[0]] = true
	}
	if len(seen) != many {
		t.Fatalf("%d addresses for %d pods", len(seen), many)
	}
	for i := 0; i+1 < many; i += 20 {
		if !pods[i].reaches(address(t, n, pods[i+1])) {
			t.Errorf("%s does not reach %s", pods[i].id, pods[i+1].id)
		}
	}
	err = inParallel(pods, func(p *pod) error {
		return r.cni.DelNetworkList(t.Context(), r.list, p.runtimeConf())
	})
	if err != nil {
		t.Fatal(err)
	}
	n.expectNothing(t)
}

func address(t *testing.T, n *node, p *pod) string {
	t.Helper()
	for _, l := range n.leases.List() {
		if l.Attachment.GetContainerId() == p.id {
			return strings.TrimSuffix(l.Attachment.GetIps()[0], "/23")
		}
	}
	t.Fatalf("%s has no lease", p.id)
	return ""
}

// TestKilledServerLeavesNothingAfterCollection kills the server while ten pods at
// a time are added and deleted, again and again. The next server's Restore and GC
// must find everything.
func TestKilledServerLeavesNothingAfterCollection(t *testing.T) {
	const rounds, many = 4, 30
	plugins := buildPlugin(t)
	n := newNode(t)
	if err := n.stop(); err != nil { // the processes have all of it
		t.Fatal(err)
	}
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	pods := make([]*pod, many)
	for i := range pods {
		pods[i] = newPod(t, "shop", fmt.Sprintf("pod-%d", i))
	}
	for round := range rounds {
		server := n.startServer(t)
		var done sync.WaitGroup
		reached := make(chan struct{}, many)
		done.Go(func() {
			_ = inParallel(pods, func(p *pod) error { // fails for most, once the server is killed
				_, err := r.cni.AddNetworkList(t.Context(), r.list, p.runtimeConf())
				if err == nil && round%2 == 1 {
					err = r.cni.DelNetworkList(t.Context(), r.list, p.runtimeConf())
				}
				reached <- struct{}{}
				return err
			})
		})
		for range 2 + 5*round { // another moment each round
			<-reached
		}
		server.Kill()
		done.Wait()
	}
	server := n.startServer(t)
	// The runtime knows of nothing: libcni deletes what its cache has, then calls GC.
	if err := r.cni.GCNetworkList(t.Context(), r.list, &libcni.GCArgs{}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	n.reopen(t)
	n.expectNothing(t)
}

func TestPluginGarbageCollection(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	n.serveHere(t, nil)
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	keep, drop := newPod(t, "shop", "keep"), newPod(t, "shop", "drop")
	r.add(t, keep.runtimeConf())
	add(t, n.server(nil), drop.request()) // libcni's cache does not have it
	err := r.cni.GCNetworkList(t.Context(), r.list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "keep", IfName: "eth0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if all := n.leases.List(); len(all) != 1 || all[0].Attachment.GetContainerId() != "keep" {
		t.Errorf("leases are %v, want keep's alone", all)
	}
}
