package lab

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func TestHostPortsOfTheCommandLine(t *testing.T) {
	got, err := parseHostPorts([]string{"8080:80", "192.0.2.1:53:5353/UDP"})
	want := []*labv1.HostPort{{HostPort: 8080, ContainerPort: 80}, {HostIp: "192.0.2.1", HostPort: 53, ContainerPort: 5353, Protocol: "UDP"}}
	if err != nil || len(got) != len(want) || !proto.Equal(got[0], want[0]) || !proto.Equal(got[1], want[1]) {
		t.Errorf("got %v, error %v", got, err)
	}
	wrong := []string{"80", "0:80", "80:0", "80:x", "70000:80", "a:b:c:d", ""}
	_, err = parseHostPorts(wrong)
	for _, text := range wrong {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}
