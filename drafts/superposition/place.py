"""Put both chapters in their place: run once in the root of the repository; then this folder goes."""
import re, yaml
from pathlib import Path
B=Path("book")
for stem,d in (("superposition","superposition"),("superposition_proofs","superposition_proofs")):
    D=Path("drafts")/d
    (B/f"{stem}.ipynb").write_text((D/f"{stem}.ipynb").read_text())
    (B/"teaching"/f"{stem}.md").write_text((D/"teaching.md").read_text())
    c=(B/"claims.yml").read_text().rstrip("\n")+"\n"+(D/"claims.yml").read_text()
    (B/"claims.yml").write_text(c)
ids=[c["id"] for c in yaml.safe_load((B/"claims.yml").read_text())]; assert len(ids)==len(set(ids))
# glossary
g=(B/"reference/glossary.md").read_text(); i=g.rindex("```")
have=set(re.findall(r"(?m)^(\S[^\n]*)\n  ",g))
for d in ("superposition","superposition_proofs"):
    for t in re.split(r"\n\n(?=\S)",(Path("drafts")/d/"glossary.md").read_text().strip("\n")):
        name=t.split("\n")[0]
        if name.startswith("#"): continue
        if name in have: print("glossary has",name); continue
        have.add(name); g=g[:i].rstrip("\n")+"\n\n"+t+"\n"+g[i:]; i=g.rindex("```")
g=g.replace("and of its first three chapters.","and of its first five chapters.")
(B/"reference/glossary.md").write_text(g)
# notes map
m={}
for d,room in (("superposition","superposition"),("superposition_proofs","proofs")):
    for k,v in yaml.safe_load((Path("drafts")/d/"notes_map.yml").read_text()).items():
        m[k]=(d,[f"{room}.{c}" if f"{room}.{c}" in ids else c for c in v])
s=(B/"notes_map.yml").read_text(); out=[]; seen=set()
for b in re.split(r"(?m)^(?=  - id: )",s):
    mm=re.match(r"  - id: (\S+)",b)
    if mm and mm.group(1) in m:
        k=mm.group(1); seen.add(k); stem,cl=m[k]
        bad=[c for c in cl if c not in ids]
        if bad: print("unknown",k,bad)
        if not cl and "place: reference/bibliography" in b: out.append(b); continue
        if "same_as" in b and "place:" not in b: print("same_as",k); out.append(b); continue
        b=re.sub(r"(?m)^    place: .*$",f"    place: {{chapter: {stem}, claims: [{', '.join(cl)}]}}",b)
        b=re.sub(r"(?m)^    verdict: .*$","    verdict: "+("not yet" if cl else "n/a"),b)
    elif mm and re.search(r"planned: superposition(_proofs)?\n",b): print("LEFT",mm.group(1),b[-200:])
    out.append(b)
print("not in map",set(m)-seen)
(B/"notes_map.yml").write_text("".join(out))
# bib
bib=(B/"reference/references.bib").read_text().rstrip("\n")+"\n\n"+"\n".join(l for l in (Path("drafts/superposition_proofs/references.bib")).read_text().split("\n") if not l.startswith("%"))
(B/"reference/references.bib").write_text(bib.rstrip("\n")+"\n")
# toc
p=Path("_toc.yml"); s=p.read_text()
s=s.replace("      - file: book/induction_heads\n","      - file: book/induction_heads\n      - file: book/superposition\n      - file: book/superposition_proofs\n").replace("      - file: book/teaching/induction_heads\n","      - file: book/teaching/induction_heads\n      - file: book/teaching/superposition\n      - file: book/teaching/superposition_proofs\n").replace("      - file: book/reference/api_induction\n","      - file: book/reference/api_induction\n      - file: book/reference/api_superposition\n")
p.write_text(s)
p=B/"chapters.yml"; s=p.read_text()
for stem in ("superposition","superposition_proofs"):
    i=s.index(f"- stem: {stem}\n"); j=s.index("written: false",i); s=s[:j]+"written: true"+s[j+14:]
p.write_text(s)
# api
out=["# API: superposition\n","The package of the chapters {doc}`/book/superposition` and {doc}`/book/superposition_proofs`.\n"]
for f in ("toy","geometry","neurons","coding","computation","plots","exercises","theory","phase","overcomplete","proof_plots","proof_exercises"):
    doc=re.match(r'"""(.*?)(?:\n|""")',Path(f"src/mechbook/superposition/{f}.py").read_text()).group(1)
    out.append(f"## mechbook.superposition.{f}\n\n{doc}\n\n```{{eval-rst}}\n.. automodule:: mechbook.superposition.{f}\n   :members:\n```\n")
(B/"reference/api_superposition.md").write_text("\n".join(out))
p=B/"reference/api.md"; s=p.read_text(); s=s.replace("{doc}`/book/reference/api_induction`.","{doc}`/book/reference/api_induction`, {doc}`/book/reference/api_superposition`."); p.write_text(s)
for f in ("api_induction","api_language_model"):
    p=B/f"reference/{f}.md"; s=p.read_text(); print(s.split("\n")[2]); s=s.replace(", which is still being written.","."); p.write_text(s)
