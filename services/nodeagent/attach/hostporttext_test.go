package attach

import (
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// FuzzHostPortMarks reads any text: what is made of it is written and read as the same.
func FuzzHostPortMarks(f *testing.F) {
	f.Add("tcp:8080:80,udp:53:53:192.0.2.1")
	f.Add("sctp:1:65535:127.0.0.1")
	f.Add("tcp:0:80")
	f.Add(",")
	f.Add("tcp:80:80,tcp:80:81")
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := parseHostPorts(text)
		if err != nil {
			return
		}
		again, err := parseHostPorts(hostPortsText(ports))
		if err != nil || len(again) != len(ports) {
			t.Fatalf("%q is %v, and then %v %v", text, ports, again, err)
		}
		for i, p := range ports {
			if p.GetProtocol() == cniv1.Protocol_PROTOCOL_UNSPECIFIED || p.GetHostPort() == 0 || p.GetContainerPort() == 0 {
				t.Errorf("%q: %v", text, p)
			}
			if a, err := hostAddress(p.GetHostIp()); err == nil && !a.IsValid() {
				p.HostIp = "" // 0.0.0.0 is not written
			}
			if !proto.Equal(p, again[i]) {
				t.Errorf("%q is %v, and then %v", text, p, again[i])
			}
		}
	})
}
