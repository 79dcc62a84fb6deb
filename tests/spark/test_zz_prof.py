import cProfile, pstats, pytest, time
from spark.spark_langchain_ollama import main
from spark.spark_langchain_multiple_mode import main as main2
def test_p(run_command, store, spark):
    for m in (main, main, main2, main2):
        t=time.time()
        pr=cProfile.Profile(); pr.enable()
        run_command(m, "--llm-type","mock","--num-samples",6)
        pr.disable(); print(m.name, time.time()-t)
        pstats.Stats(pr).sort_stats("cumtime").print_stats("(utils|spark|genai|mlflow.*fluent|flush|lesson).*", 25) if m is main else None
