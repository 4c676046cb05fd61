package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

func codeAndText(t *testing.T, err error) (uint, string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a CNI error", err)
	}
	return e.Code, e.Error()
}

func TestConfigThatIsRight(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want func(config) bool
	}{
		"nothing but what every plugin gets": {`{"cniVersion":"1.1.0","name":"damask","type":"damask-cni"}`, func(c config) bool {
			return c.cniVersion == "1.1.0" && c.socket == "/run/damask/cni.sock" && c.timeout == time.Minute && !c.hasValid && !c.hasPrevResult
		}},
		"fields of newer versions and of others": {`{"future":{"a":[1]},"dns":{},"ipam":{},"socket":"/x","timeout":600}`, func(c config) bool {
			return c.socket == "/x" && c.timeout == 10*time.Minute
		}},
		"addresses as args, with and without prefix length": {`{"args":{"cni":{"ips":["10.1.2.3/23"],"other":1}}}`, func(c config) bool {
			return len(c.ips) == 1 && c.ips[0] == "10.1.2.3"
		}},
		"the capability wins over args": {`{"args":{"cni":{"ips":["10.1.2.3"]}},"runtimeConfig":{"ips":["10.1.2.4"]}}`, func(c config) bool {
			return len(c.ips) == 1 && c.ips[0] == "10.1.2.4"
		}},
		"an empty capability does not": {`{"args":{"cni":{"ips":["10.1.2.3"]}},"runtimeConfig":{"ips":[]}}`, func(c config) bool {
			return len(c.ips) == 1 && c.ips[0] == "10.1.2.3"
		}},
		"labels": {`{"args":{"cni":{"labels":[{"key":"app","value":"web"},{"key":"empty","value":""}]}}}`, func(c config) bool {
			return len(c.labels) == 2 && c.labels["app"] == "web"
		}},
		"ports of containers": {`{"args":{"cni":{"ports":[{"name":"http","containerPort":8080},{"containerPort":53,"protocol":"UDP"},{"name":"http","containerPort":1,"protocol":"SCTP"}]}}}`, func(c config) bool {
			return fmt.Sprint(c.ports) == fmt.Sprint([]*cniv1.ContainerPort{
				{Name: "http", ContainerPort: 8080, Protocol: cniv1.Protocol_PROTOCOL_TCP}, {ContainerPort: 53, Protocol: cniv1.Protocol_PROTOCOL_UDP},
				{Name: "http", ContainerPort: 1, Protocol: cniv1.Protocol_PROTOCOL_SCTP},
			})
		}},
		"no ports": {`{"args":{"cni":{"ports":null}}}`, func(c config) bool { return len(c.ports) == 0 }},
		"host ports as runtimes write them": {`{"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"192.0.2.1"},{"hostPort":0,"containerPort":81,"protocol":"x"},{"hostPort":53,"containerPort":5353,"protocol":"UDP"},{"hostPort":9,"containerPort":9}]}}`, func(c config) bool {
			return fmt.Sprint(c.hostPorts) == fmt.Sprint([]*cniv1.HostPort{
				{HostIp: "192.0.2.1", HostPort: 8080, ContainerPort: 80, Protocol: cniv1.Protocol_PROTOCOL_TCP},
				{HostPort: 53, ContainerPort: 5353, Protocol: cniv1.Protocol_PROTOCOL_UDP}, {HostPort: 9, ContainerPort: 9, Protocol: cniv1.Protocol_PROTOCOL_TCP},
			})
		}},
		"bandwidth as runtimes write it": {`{"runtimeConfig":{"bandwidth":{"ingressRate":10000000,"ingressBurst":4294967295}}}`, func(c config) bool {
			return c.bandwidth.GetIngressRate() == 10_000_000 && c.bandwidth.GetIngressBurst() == 1<<32-1 && c.bandwidth.GetEgressRate() == 0
		}},
		"no bandwidth": {`{"runtimeConfig":{"bandwidth":{}}}`, func(c config) bool { return c.bandwidth == nil }},
		"an earlier result": {`{"prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.3/23"}]}}`, func(c config) bool {
			return c.hasPrevResult && len(c.prevIPs) == 1 && c.prevIPs[0] == "10.1.2.3/23"
		}},
		"what GC keeps": {`{"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}`, func(c config) bool {
			return c.hasValid && len(c.valid) == 1 && c.valid[0].GetContainerId() == "a" && c.valid[0].GetIfname() == "eth0"
		}},
		"GC that keeps nothing": {`{"cni.dev/valid-attachments":null}`, func(c config) bool { return c.hasValid && len(c.valid) == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseConfig([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(got) {
				t.Errorf("%s was read as %+v", c.text, got)
			}
		})
	}
}

func TestWrongConfigNamesEveryProblem(t *testing.T) {
	_, err := parseConfig([]byte(`{"socket":"cni.sock","timeout":0,
		"args":{"cni":{"ips":["web","10.1.2.3"],"labels":[{"value":"x"},{"key":"a","value":"1"},{"key":"a","value":"2"}],
			"ports":[{"name":"http"},{"containerPort":80,"protocol":"tcp"},{"containerPort":80,"hostPort":80},{"containerPort":-1},7,null]}},
		"runtimeConfig":{"ips":[7]},"prevResult":{"ips":[{"address":"10.1.2.3"}]},
		"cni.dev/valid-attachments":[{"containerID":"a"}]}`))
	code, text := codeAndText(t, err)
	if code != types.ErrInvalidNetworkConfig {
		t.Errorf("code is %d, want 7", code)
	}
	for _, want := range []string{
		`socket: "cni.sock"`, "timeout: 0", "args.cni.ips: 2 addresses", `args.cni.ips[0]: "web"`, "labels[0]: key is missing",
		"ports[0].containerPort: is required", `ports[1].protocol: "tcp" is not TCP, UDP or SCTP`, `ports[2]: unknown field "hostPort"`,
		"ports[3]: ", "ports[4]: ", "ports[5].containerPort: is required",
		`labels[2]: key "a" is given twice`, "runtimeConfig: ", "prevResult.ips[0].address", "valid-attachments[0]",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the error does not say %q: %s", want, text)
		}
	}
	for _, bad := range []string{"", "[]", "{", `"x"`} {
		if _, err := parseConfig([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a configuration", bad)
		}
	}
}

func TestWrongPortMappings(t *testing.T) {
	_, err := parseConfig([]byte(`{"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"icmp"}]}}`))
	if code, text := codeAndText(t, err); code != types.ErrInvalidNetworkConfig || !strings.Contains(text, `portMappings[0].protocol: "icmp" is not tcp, udp or sctp`) {
		t.Errorf("got %d %s", code, text)
	}
	if _, err := parseConfig([]byte(`{"runtimeConfig":{"portMappings":[{"hostPort":-1}]}}`)); err == nil {
		t.Error("a negative port was taken")
	}
}

func TestArgs(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want environment
		says []string
	}{
		"as Kubernetes sends them": {
			args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1;NEW=2",
			want: environment{podNamespace: "shop", podName: "web", podUID: "1"},
		},
		"with wishes": {
			args: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;IP=10.1.2.3/23;DAMASK_OFPORT=7;",
			want: environment{podNamespace: "shop", podName: "web", ip: "10.1.2.3", ofport: 7},
		},
		"nothing at all": {},
		"wrong everywhere": {
			args: "K8S_POD_NAMESPACE;IP=web;DAMASK_OFPORT=70000;IgnoreUnknown=perhaps;=x;ODD=1;OLD=2",
			says: []string{`"K8S_POD_NAMESPACE" is not KEY=VALUE`, `IP: "web"`, `DAMASK_OFPORT: "70000"`, `"perhaps"`, `"=x"`, "unknown: ODD, OLD"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseArgs(c.args)
			if len(c.says) == 0 {
				if err != nil || got != c.want {
					t.Errorf("got %+v %v, want %+v", got, err, c.want)
				}
				return
			}
			code, text := codeAndText(t, err)
			if code != types.ErrInvalidEnvironmentVariables {
				t.Errorf("code is %d, want 4", code)
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("the error does not say %q: %s", want, text)
				}
			}
		})
	}
}

func TestAddNeedsThePodsName(t *testing.T) {
	_, err := addRequest(&skel.CmdArgs{ContainerID: "a"}, config{}, environment{})
	code, text := codeAndText(t, err)
	if code != types.ErrInvalidEnvironmentVariables || !strings.Contains(text, "K8S_POD_NAMESPACE") || !strings.Contains(text, "K8S_POD_NAME is") {
		t.Errorf("got %d %s, want 4 and both names", code, text)
	}
}

// FuzzConfig checks that no configuration breaks the parser, and that what it
// accepts is within its limits.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","socket":"/run/x","timeout":5,"args":{"cni":{"ips":["10.1.2.3"],"labels":[{"key":"a","value":"b"}]}}}`))
	f.Add([]byte(`{"runtimeConfig":{"ips":["10.1.2.3/8"]},"prevResult":{"ips":[{"address":"10.1.2.3/8"}]}}`))
	f.Add([]byte(`{"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}`))
	f.Add([]byte(`{"timeout":null}`))
	f.Add([]byte(`{"args":{"cni":{"ports":[{"name":"http","containerPort":8080,"protocol":"SCTP"},{"containerPort":1e3}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if c.timeout < time.Second || c.timeout > 600*time.Second || !strings.HasPrefix(c.socket, "/") || len(c.ips) > 1 {
			t.Errorf("%q was accepted as %+v", data, c)
		}
		for _, p := range c.ports {
			if p.GetContainerPort() == 0 || p.GetProtocol() == cniv1.Protocol_PROTOCOL_UNSPECIFIED {
				t.Errorf("%q was accepted with %v", data, p)
			}
		}
	})
}

// FuzzArgs does the same for CNI_ARGS.
func FuzzArgs(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;IP=10.1.2.3;DAMASK_OFPORT=7")
	f.Add(";;=;a=b=c")
	f.Fuzz(func(t *testing.T, args string) {
		if e, err := parseArgs(args); err == nil && e.ofport > 65535 {
			t.Errorf("%q was accepted as %+v", args, e)
		}
	})
}
