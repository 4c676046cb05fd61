package configfile_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/configfile"
)

type block struct {
	Listen string `yaml:"listen"`
}

type node struct {
	Name   string      `yaml:"name"`
	IP     *netip.Addr `yaml:"ip"`
	Labels []string    `yaml:"labels"`
}

type config struct {
	block   `yaml:",inline"`
	Size    uint8          `yaml:"size"`
	Offset  int            `yaml:"offset"`
	Ratio   float64        `yaml:"ratio"`
	Wait    time.Duration  `yaml:"wait"`
	Strict  bool           `yaml:"strict"`
	Range   netip.Prefix   `yaml:"range"`
	Nodes   []node         `yaml:"nodes"`
	Copies  map[string]int `yaml:"copies"`
	Ignored string         `yaml:"-"`
}

func check(r *configfile.Report) {}

func TestAWholeFileIsRead(t *testing.T) {
	var cfg config
	cfg.Offset = 7
	err := configfile.Parse("c.yaml", []byte(`
listen: 127.0.0.1:1
size: 0x10
ratio: 2
wait: 1m30s
strict: true
range: 10.0.0.0/8
nodes:
  - {name: n1, ip: 192.0.2.1, labels: [a, "7"]}
  - name: n2
    labels:
copies: {ipam: 2}
`), &cfg, check)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:1" || cfg.Size != 16 || cfg.Offset != 7 || cfg.Ratio != 2 || cfg.Wait != 90*time.Second || !cfg.Strict {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Range != netip.MustParsePrefix("10.0.0.0/8") || cfg.Copies["ipam"] != 2 {
		t.Errorf("got %+v", cfg)
	}
	if len(cfg.Nodes) != 2 || cfg.Nodes[0].IP.String() != "192.0.2.1" || !slices.Equal(cfg.Nodes[0].Labels, []string{"a", "7"}) || cfg.Nodes[1].IP != nil {
		t.Errorf("got %+v", cfg.Nodes)
	}
}

func TestEveryProblemIsReportedWithItsLine(t *testing.T) {
	var cfg config
	err := configfile.Parse("c.yaml", []byte(`listen: 9441
size: 300
wait: 30
strict: maybe
range: 10.0.0.1.2/8
size: 4
colour: blue
nodes:
  - name: n1
    ip: 192.0.2.300
    labels: one
  - {name: n1, speed: 3}
  - n3
copies:
  ipam: two
offset: 1.5
ratio: [1]
`), &cfg, func(r *configfile.Report) {
		r.HostPort("listen", cfg.Listen) // could not be read: not reported twice
		r.Addf("nodes[1].name", "there is another %q", "n1")
		r.In("nodes[2]").Addf("name", "required")
		r.In("nodes").In("[0]").Addf("mtu", "required")
		r.Addf("tls.key", "required")
	})
	want := []string{
		`c.yaml:1: listen: expected text (put it in quotes), found the number 9441`,
		`c.yaml:1: tls.key: required`,
		`c.yaml:2: size: 300 is out of range`,
		`c.yaml:3: wait: expected a duration such as "30s", found the number 30`,
		`c.yaml:4: strict: expected true or false, found "maybe"`,
		`c.yaml:5: range: "10.0.0.1.2/8": `,
		`c.yaml:6: size: given twice; first on line 2`,
		`c.yaml:7: colour: unknown field; known here: listen, size, offset, ratio, wait, strict, range, nodes, copies`,
		`c.yaml:9: nodes[0].mtu: required`,
		`c.yaml:10: nodes[0].ip: "192.0.2.300": `,
		`c.yaml:11: nodes[0].labels: expected a list, found "one"`,
		`c.yaml:12: nodes[1].speed: unknown field; known here: name, ip, labels`,
		`c.yaml:12: nodes[1].name: there is another "n1"`,
		`c.yaml:13: nodes[2]: expected fields, found "n3"`,
		`c.yaml:15: copies.ipam: expected a whole number, found "two"`,
		`c.yaml:16: offset: expected a whole number, found the number 1.5`,
		`c.yaml:17: ratio: expected a number, found a list`,
	}
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%s", len(got), len(want), err)
	}
	for i := range min(len(got), len(want)) {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

func TestWhatIsNotOnePlainDocumentIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"broken":             {"listen: a\n  size: [\n", "c.yaml:2: not YAML: "},
		"two documents":      {"size: 1\n---\nsize: 2\n", "c.yaml:2: a second document"},
		"broken second":      {"size: 1\n---\n\tsize: 2\n", "not YAML"},
		"an alias":           {"listen: &a x\ncopies: {k: *a}\n", "c.yaml:1: listen: anchors and aliases are not supported"},
		"a merge key":        {"<<: {size: 1}\n", "c.yaml:1: <<: unknown field"},
		"a list":             {"- 1\n", "c.yaml:1: expected fields, found a list"},
		"a word":             {"hello\n", `c.yaml:1: expected fields, found "hello"`},
		"a mapping as a key": {"{a: b}: c\n", "c.yaml:1: a field's name must be plain text"},
		"an explicit tag":    {"size: !!str 3\n", `c.yaml:1: size: expected a whole number, found "3"`},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg config
			err := configfile.Parse("c.yaml", []byte(tc.file), &cfg, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAnEmptyFileKeepsDefaultsAndIsChecked(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "---\n", "null\n"} {
		cfg := config{Size: 3}
		err := configfile.Parse("c.yaml", []byte(file), &cfg, func(r *configfile.Report) { r.Required("listen", cfg.Listen) })
		if err == nil || err.Error() != "c.yaml:1: listen: required" || cfg.Size != 3 {
			t.Errorf("%q: got %v, %+v", file, err, cfg)
		}
	}
}

func TestACheckCanAskWhetherAFieldIsGiven(t *testing.T) {
	cfg := config{Size: 3}
	err := configfile.Parse("c.yaml", []byte("size: 3\nnodes: [{name: a}]\n"), &cfg, func(r *configfile.Report) {
		for path, want := range map[string]bool{"size": true, "listen": false, "nodes": true, "nodes[0].name": true, "nodes[0].ip": false} {
			if r.Given(path) != want {
				t.Errorf("%s is given: %t, want %t", path, !want, want)
			}
		}
		if part := r.In("nodes[0]"); !part.Given("name") || part.Given("ip") {
			t.Error("the report of a part does not know where it stands")
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAddressesAreChecked(t *testing.T) {
	for value, want := range map[string]string{
		"":            "required",
		"127.0.0.1":   `"127.0.0.1" is not HOST:PORT`,
		"h:http":      `port "http" is not a number from 0 to 65535`,
		"h:65536":     `port "65536" is not a number from 0 to 65535`,
		"[::1]:1":     "",
		":9441":       "",
		"127.0.0.1:0": "",
	} {
		err := configfile.Parse("c", nil, new(config), func(r *configfile.Report) { r.HostPort("listen", value) })
		if got := problems(err); want == "" && len(got) != 0 || want != "" && (len(got) != 1 || got[0].Reason != want) {
			t.Errorf("%q: got %v, want %q", value, got, want)
		}
	}
}

func problems(err error) []configfile.Problem {
	var e *configfile.Error
	if errors.As(err, &e) {
		return e.Problems
	}
	return nil
}

func TestAFileThatCannotBeReadIsNotTheContentsFault(t *testing.T) {
	err := configfile.Load(filepath.Join(t.TempDir(), "none.yaml"), new(config), nil)
	if !errors.Is(err, os.ErrNotExist) || problems(err) != nil {
		t.Errorf("got %v", err)
	}
	if err := configfile.Load("/dev/zero", new(config), nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func FuzzAnyFileIsReadOrRefusedInOrder(f *testing.F) {
	f.Add("listen: a:1\nnodes: [{name: x, ip: 1.2.3.4}]\n")
	f.Add("nodes:\n- name: 1\n- [a]\ncopies: {a: b}\nsize: 1\nsize: 2\n")
	f.Add("a: &x [*x]\n<<: *x\n? [a]\n: b\n---\n")
	f.Add("wait: 1s\nrange: !!binary aGk=\nratio: .nan\noffset: 0o17\nsize: 0b11\n")
	f.Fuzz(func(t *testing.T, file string) {
		var cfg config
		lines := strings.Count(file, "\n") + 1
		err := configfile.Parse("c", []byte(file), &cfg, func(r *configfile.Report) { r.Addf("nodes[0].name", "seen") })
		last := 0
		for _, p := range problems(err) {
			if p.Line < last || p.Line < 1 {
				t.Fatalf("line %d after %d of %d", p.Line, last, lines)
			}
			last = p.Line
		}
		if err == nil {
			t.Fatal("what check reported is lost")
		}
	})
}
